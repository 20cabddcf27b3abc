"""Triggers of the Imply Polaris provider."""
