"""The URIs of assets: which forms pass, how they are written, and what OpenLineage calls them."""

from __future__ import annotations

import warnings

import pytest

from airflow_provider_polaris._compat import asset_class
from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.assets.uris import DatasetId, PolarisTable, Project, address_of, to_openlineage
from tests.support.airflow_versions import AIRFLOW_3

HOST = "acme.us-east-1.aws.api.imply.io"
PROJECT = "4bd7330d-cb6d-489b-aa7b-22653f237f9d"
ORDERS = f"polaris://{HOST}/{PROJECT}/orders"


def uri_of(given):
    """Return the URI that Airflow stores, through its own registry of handlers."""
    return asset_class()(given).uri


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (ORDERS, ORDERS),
        (f"{ORDERS}/", ORDERS),
        (f"POLARIS://{HOST.upper()}/{PROJECT}/orders", ORDERS),
        (f"polaris://localhost:8080/{PROJECT}/orders", f"polaris://localhost:8080/{PROJECT}/orders"),
        (f"polaris://{HOST}/{PROJECT}/Koalas Subset", f"polaris://{HOST}/{PROJECT}/Koalas%20Subset"),
        (f"polaris://{HOST}/{PROJECT}/a%2fb", f"polaris://{HOST}/{PROJECT}/a%2Fb"),
        (f"polaris://{HOST}/{PROJECT}/Orders", f"polaris://{HOST}/{PROJECT}/Orders"),
        ("polaris://orders", "polaris://orders/"),
        ("polaris://Orders", "polaris://Orders/"),
    ],
)
def test_airflow_stores_one_form_of_a_uri(given, stored):
    assert uri_of(given) == stored
    assert uri_of(stored) == stored


@pytest.mark.parametrize(
    "given",
    [
        f"polaris://{HOST}/{PROJECT}",
        f"{ORDERS}/part",
        f"polaris:///{PROJECT}/orders",
        f"polaris://{HOST}//orders",
        f"{ORDERS}?day=1",
        f"polaris://{HOST}/no id/orders",
        f"polaris://{HOST}/{PROJECT}/..",
        f"polaris://{HOST}/{PROJECT}/{'t' * 256}",
    ],
)
def test_another_form_is_an_error_or_a_warning_of_2_11(given):
    if AIRFLOW_3:
        with pytest.raises(ValueError, match="polaris:/"):
            uri_of(given)
    else:
        with pytest.warns(UserWarning, match="not AIP-60 compliant"):
            uri_of(given)
    assert address_of(given) is None


@pytest.mark.parametrize("form", ["polaris://pok_secret@{}", "polaris://x:pok_secret@{}"])
@pytest.mark.parametrize("rest", [f"{HOST}/{PROJECT}/orders", "orders"], ids=["long", "short"])
def test_no_uri_or_message_has_a_key(form, rest):
    given = form.format(rest)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            result = uri_of(given)
        except ValueError as error:
            result = str(error)
    assert "pok_secret" not in result
    assert not [one for one in warned if "pok_secret" in str(one.message)]
    assert address_of(given) is None


def test_a_polaris_table_is_the_asset_of_its_uri():
    orders = PolarisTable("orders", host=HOST, project_id=PROJECT, extra={"team": "sales"})
    assert type(orders) is asset_class()
    assert orders == asset_class()(ORDERS, extra={"team": "sales"})
    assert orders.extra == {"team": "sales"}
    assert PolarisTable("orders", host=f"https://{HOST}/", project_id=PROJECT).uri == ORDERS
    assert PolarisTable("Koalas/Süd", host=HOST, project_id=PROJECT).uri == f"{ORDERS[:-6]}Koalas%2FS%C3%BCd"


def test_a_polaris_table_without_a_project_has_the_short_form():
    assert PolarisTable("orders") == asset_class()("polaris://orders")
    assert PolarisTable("Koalas Subset").uri == "polaris://Koalas%20Subset/"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": ""}, "table must be a name"),
        ({"table": None}, "table must be a name"),
        ({"table": "..", "host": HOST, "project_id": PROJECT}, "table must be a name"),
        ({"table": "t", "host": HOST}, "host and project_id, or none"),
        ({"table": "t", "project_id": PROJECT}, "host and project_id, or none"),
        ({"table": "t", "host": "", "project_id": PROJECT}, "host of a table must be"),
        ({"table": "t", "host": f"{HOST}/v1", "project_id": PROJECT}, "host of a table must be"),
        ({"table": "t", "host": HOST, "project_id": "a/b"}, "must be a Polaris id"),
        ({"table": "t", "host": HOST, "project_id": ""}, "must be a Polaris id"),
    ],
)
def test_a_polaris_table_of_an_impossible_name_is_refused(options, message):
    with pytest.raises(PolarisUsageError, match=message):
        PolarisTable(**options)


def test_a_host_with_a_key_is_refused_without_the_key():
    with pytest.raises(PolarisUsageError) as caught:
        PolarisTable("t", host=f"pok_secret@{HOST}", project_id=PROJECT)
    assert "pok_secret" not in str(caught.value)


def test_a_table_has_the_same_name_from_its_uri_and_from_a_connection(hook, polaris):
    project = Project.of_url(hook.connection.base_url, hook.connection.project_id)
    uri = project.table_uri("Koalas / Süd.1")
    assert address_of(uri_of(uri)) == (project, "Koalas / Süd.1")
    host = polaris.url.partition("://")[2]
    assert project.table("orders") == DatasetId(f"polaris://{host}", f"{polaris.project_id}.orders")


@pytest.mark.filterwarnings("ignore")  # 3.3 keeps a second registry, which the other tests use
def test_airflow_knows_the_handler_the_factory_and_the_converter(airflow_db):
    from airflow.providers_manager import ProvidersManager

    manager, kind = ProvidersManager(), "asset" if AIRFLOW_3 else "dataset"
    assert getattr(manager, f"{kind}_uri_handlers")["polaris"].__name__ == "sanitize_uri"
    assert getattr(manager, f"{kind}_factories")["polaris"] is PolarisTable
    assert getattr(manager, f"{kind}_to_openlineage_converters")["polaris"] is to_openlineage


@pytest.mark.parametrize("uri", ["polaris://orders", "s3://bucket/a/b"])
def test_a_uri_that_names_no_project_has_no_dataset_in_openlineage(uri):
    assert to_openlineage(asset_class()(uri), None) is None


def test_openlineage_names_a_table_by_host_project_and_table():
    pytest.importorskip("openlineage.client", reason="make lineage installs Airflow's OpenLineage provider")
    dataset = to_openlineage(PolarisTable("Koalas Subset", host=HOST, project_id=PROJECT), None)
    assert (dataset.namespace, dataset.name) == (f"polaris://{HOST}", f"{PROJECT}.Koalas Subset")
