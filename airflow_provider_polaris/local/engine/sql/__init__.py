"""Druid SQL: its names, times and functions, written for DuckDB."""
