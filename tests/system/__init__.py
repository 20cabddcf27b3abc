"""Tests that start real Airflow processes: a scheduler, a triggerer and, on 3.x, an API server."""
