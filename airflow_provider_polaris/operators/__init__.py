"""Operators of the Imply Polaris provider."""
