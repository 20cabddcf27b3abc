"""The Polaris API: one client, what its responses mean, and what can go wrong. Nothing here knows Airflow."""
