"""Sensors of the Imply Polaris provider."""
