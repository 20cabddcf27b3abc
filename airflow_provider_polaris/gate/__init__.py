"""The gate: the conditions under which a waiting task succeeds. Pure: no request, no clock, no Airflow."""
