"""The command line: ``airflow polaris …`` and ``python -m airflow_provider_polaris …``. The commands are the same."""
