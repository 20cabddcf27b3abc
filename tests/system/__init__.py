"""Tests with real Airflow processes: a scheduler, a triggerer and, on 3.x, an API server."""
