"""Tests of what `make scale` counts and prints."""
