"""Tests of submission/."""
