"""Tests of triggers/."""
