"""Tests of what the local Polaris does with jobs, rows and tables."""
