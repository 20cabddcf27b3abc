"""Tests of waiting/."""
