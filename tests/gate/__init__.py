"""Tests of gate/."""
