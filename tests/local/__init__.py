"""Tests of the local Polaris."""
