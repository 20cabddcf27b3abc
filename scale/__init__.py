"""A proof with real Airflow processes: many waits in several triggerers, which end and return while jobs run."""
