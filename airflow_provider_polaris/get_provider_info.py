"""The provider's metadata, for Airflow. Imports nothing of Airflow."""

from __future__ import annotations

from typing import Any

from airflow_provider_polaris import __version__, configuration, connection_form

NAME = "Imply Polaris"
_ASSET_URIS = [
    {
        "schemes": ["polaris"],
        "handler": "airflow_provider_polaris.assets.uris.sanitize_uri",
        "factory": "airflow_provider_polaris.assets.uris.PolarisTable",
        "to_openlineage_converter": "airflow_provider_polaris.assets.uris.to_openlineage",
    }
]


def get_provider_info() -> dict[str, Any]:
    """Return the metadata, valid against ``provider_info.schema.json`` of Airflow 2.11 and 3.x."""
    return {
        "package-name": "airflow-provider-polaris",
        "name": NAME,
        "description": "Run and check ingestion jobs of `Imply Polaris <https://imply.io/imply-polaris/>`__.",
        "versions": [__version__],
        "integrations": [
            {"integration-name": NAME, "external-doc-url": "https://docs.imply.io/polaris/", "tags": ["service"]}
        ],
        "hooks": [_modules("hooks.polaris", "hooks.sql")],
        "operators": [_modules("operators.polaris", "operators.checks")],
        "sensors": [_modules("sensors.polaris")],
        "cli": ["airflow_provider_polaris.cli.definitions.commands"],
        "triggers": [_modules("triggers.polaris", "triggers.queries")],
        "config": configuration.declared(),
        "asset-uris": _ASSET_URIS,
        "dataset-uris": _ASSET_URIS,  # Airflow 2.11 reads only these
        "extra-links": ["airflow_provider_polaris.links.polaris.PolarisConsoleLink"],
        "connection-types": [
            {
                "connection-type": "imply_polaris",
                "hook-name": NAME,
                "hook-class-name": "airflow_provider_polaris.hooks.sql.PolarisSqlHook",
                **connection_form.declared(),
            }
        ],
    }


def _modules(*names: str) -> dict[str, Any]:
    return {"integration-name": NAME, "python-modules": [f"airflow_provider_polaris.{name}" for name in names]}
