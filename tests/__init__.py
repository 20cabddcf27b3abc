"""Tests, run against the local Polaris over HTTP."""
