"""The gate: under which conditions a waiting task succeeds. Pure: no request, no clock, no Airflow."""
