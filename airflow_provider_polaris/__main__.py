"""``python -m airflow_provider_polaris``: the command line, on every Airflow."""

from __future__ import annotations

from airflow_provider_polaris.cli.python_command import main

if __name__ == "__main__":
    main()
