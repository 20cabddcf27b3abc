"""Airflow provider for Imply Polaris. Importing it costs nothing: Airflow does so to find the provider."""

from __future__ import annotations

__version__ = "0.1.0"
