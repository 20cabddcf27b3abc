"""The provider info matches the schemas of Airflow, and Airflow finds the provider."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path

import airflow
import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager

from airflow_provider_polaris import __version__
from airflow_provider_polaris.get_provider_info import get_provider_info
from airflow_provider_polaris.hooks.polaris import PolarisHook
from tests.support.airflow_versions import AIRFLOW_3


def test_the_provider_info_matches_the_schema_that_airflow_checks_at_run_time():
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_each_part_of_the_provider_info_matches_the_strict_schema():
    """The strict schema is for Airflow's own providers. It requires more keys than other providers have."""
    schema = json.loads((Path(airflow.__file__).parent / "provider.yaml.schema.json").read_text())
    info = get_provider_info()
    for name in (
        "config",
        "asset-uris" if AIRFLOW_3 else "dataset-uris",
        "connection-types",
        "hooks",
        "sensors",
        "operators",
        "triggers",
        "package-name",
        "name",
        "description",
    ):
        jsonschema.validate(info[name], {**schema["properties"][name], "definitions": schema.get("definitions", {})})


def test_the_entry_point_returns_the_provider_info():
    (entry,) = (entry for entry in entry_points(group="apache_airflow_provider") if "polaris" in entry.value)
    assert entry.load()() == get_provider_info()
    assert entry.dist.version == __version__


@pytest.mark.filterwarnings("ignore")  # the manager also imports other providers' hooks, which have warnings
def test_airflow_finds_the_provider_and_its_connection_type(airflow_db):
    manager = ProvidersManager()
    assert "airflow-provider-polaris" in manager.providers
    hook = manager.hooks["imply_polaris"]
    assert hook.hook_name == PolarisHook.hook_name == "Imply Polaris"
    assert hook.hook_class_name == "airflow_provider_polaris.hooks.sql.PolarisSqlHook"
    assert hook.connection_id_attribute_name == PolarisHook.conn_name_attr
