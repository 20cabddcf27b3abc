"""Airflow provider for Imply Polaris. This module imports nothing: Airflow imports it to find the provider."""

from __future__ import annotations

__version__ = "0.1.0"
