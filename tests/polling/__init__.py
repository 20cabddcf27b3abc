"""Tests of polling/."""
