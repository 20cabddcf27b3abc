"""Hooks of the Imply Polaris provider."""
