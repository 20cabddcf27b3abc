"""Tests of how the local Polaris speaks HTTP."""
