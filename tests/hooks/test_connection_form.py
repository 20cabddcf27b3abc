"""The connection form is the same on every Airflow, and a connection works from every place that Airflow reads."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from urllib.parse import quote

import pytest
from airflow.providers_manager import ProvidersManager
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from airflow_provider_polaris import connection_form
from airflow_provider_polaris.get_provider_info import get_provider_info
from airflow_provider_polaris.hooks.polaris import PolarisHook
from airflow_provider_polaris.local import LocalPolaris
from tests.support.airflow_versions import AIRFLOW_3
from tests.support.local_calls import API_KEY

(DECLARED,) = get_provider_info()["connection-types"]


def test_the_hook_returns_the_declared_form():
    behaviour = PolarisHook.get_ui_field_behaviour()
    declared = {name.replace("-", "_"): value for name, value in DECLARED["ui-field-behaviour"].items()}
    assert behaviour == declared
    assert set(behaviour) == {"hidden_fields", "relabeling", "placeholders"}


@pytest.mark.skipif(AIRFLOW_3, reason="Airflow 3.3 has no wtforms, and takes the form from the metadata")
@pytest.mark.filterwarnings("ignore")  # flask_appbuilder and its imports raise warnings
def test_the_widgets_are_the_declared_fields():
    widgets = PolarisHook.get_connection_form_widgets()
    assert list(widgets) == list(DECLARED["conn-fields"])
    for name, field in DECLARED["conn-fields"].items():
        assert widgets[name].field_class.__name__ == "StringField"
        assert widgets[name].args == (field["label"],)
        assert widgets[name].kwargs["description"] == field["description"]
        assert [type(validator).__name__ for validator in widgets[name].kwargs["validators"]] == ["Optional"]


@pytest.mark.filterwarnings("ignore")  # the manager imports other providers' hooks, which raise warnings
def test_airflow_reads_all_fields_of_the_form(airflow_db):
    manager = ProvidersManager()
    fields = {name for name in manager.connection_form_widgets if name.startswith("extra__imply_polaris__")}
    assert fields == {f"extra__imply_polaris__{name}" for name in connection_form.FIELDS}
    assert manager.field_behaviours["imply_polaris"]["relabeling"] == connection_form.RELABELING


def test_every_extra_has_an_optional_field():
    assert set(connection_form.FIELDS) == {"project_id", "auth", "timeout", "verify", "allow_http", "job_url_template"}
    for field in connection_form.FIELDS.values():
        assert "null" in field["schema"]["type"]


@pytest.mark.parametrize("blank", [None, ""])
def test_an_empty_form_field_means_its_default(polaris, monkeypatch, blank):
    connection = json.loads(polaris.connection_json)
    connection["extra"] = {**dict.fromkeys(connection_form.FIELDS, blank), "project_id": polaris.project_id}
    monkeypatch.setenv(
        "AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps({**connection, "host": polaris.url, "port": 0, "schema": ""})
    )
    assert PolarisHook().test_connection()[0]


def test_a_uri_defines_a_connection(polaris, monkeypatch):
    host = quote(polaris.url, safe="")
    uri = f"imply-polaris://:{quote(API_KEY, safe='')}@{host}/?project_id={polaris.project_id}&timeout=5&verify=false"
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", uri)
    hook = PolarisHook()
    assert hook.test_connection() == (True, hook.test_connection()[1])
    assert (hook.connection.timeout, hook.connection.verify) == (5, False)


def test_the_database_defines_a_connection(polaris, monkeypatch, airflow_db):
    polaris.api_key = "pok_stored"  # tests/test_secrets.py looks for the usual key in Airflow's files
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session

    monkeypatch.delenv("AIRFLOW_CONN_POLARIS_DEFAULT")
    with create_session() as session:
        session.add(
            Connection(
                conn_id="polaris_stored",
                conn_type="imply_polaris",
                host=polaris.url,
                password=polaris.api_key,
                extra=json.dumps({"project_id": polaris.project_id}),
            )
        )
    hook = PolarisHook("polaris_stored")
    if AIRFLOW_3:  # outside a task, Airflow 3 reads the database only through the model
        monkeypatch.setattr(PolarisHook, "get_connection", Connection.get_connection_from_secrets)
    assert hook.test_connection()[0]


@pytest.mark.parametrize("auth", ["api_key", "basic"])
def test_both_forms_of_authentication_work(polaris, monkeypatch, auth):
    connection = json.loads(polaris.connection_json)
    connection["extra"]["auth"] = auth
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(connection))
    assert PolarisHook().test_connection()[0]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return the paths of a self-signed certificate for this machine, and of its private key."""
    now = datetime.now(timezone.utc)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "local polaris")])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(signed.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # urllib3 warns about verify=False
@pytest.mark.parametrize(("verify", "works"), [(None, False), (True, False), ("cert", True), (False, True)])
def test_the_extra_verify_selects_the_check_of_the_certificate(certificate, monkeypatch, verify, works):
    with LocalPolaris(certfile=certificate[0], keyfile=certificate[1]) as polaris:
        assert polaris.url.startswith("https://")
        connection = json.loads(polaris.connection_json)
        connection["extra"]["verify"] = certificate[0] if verify == "cert" else verify
        monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(connection))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificate[0])  # the connection's verify overrides this variable
        hook = PolarisHook()
        ok, message = hook.test_connection()
        hook.close()
    assert ok == works, message
    if not works:
        assert "TLS failed" in message
        assert "certificate" in message.lower()


BROKEN = {
    "a rejected key": (
        lambda polaris, _: polaris.fail_next(9, status=401),
        "Check the API key",
    ),
    "a wrong key": (lambda _, conn: conn.update(password="pok_wrong"), "Check the API key"),
    "a missing permission": (lambda polaris, _: polaris.fail_next(9, status=403), "permission ManageIngestionJobs"),
    "another project": (lambda _, conn: conn["extra"].update(project_id="another"), "can see no project another"),
    "no project": (lambda _, conn: conn["extra"].pop("project_id"), "no project id"),
    "the console": (lambda _, conn: conn.update(host="acme.app.imply.io"), "its host is the console"),
    "no host": (lambda _, conn: conn.update(host=""), "no host"),
    "a closed port": (lambda _, conn: conn.update(host="http://127.0.0.1:1"), "the host could not be reached"),
    "an unknown host": (lambda _, conn: conn.update(host="https://polaris.invalid"), "the host could not be reached"),
    "no TLS": (lambda polaris, conn: conn.update(host=polaris.url.replace("http:", "https:")), "TLS failed"),
    "an outage": (lambda polaris, _: polaris.fail_next(9, status=503), "Polaris is not available now: HTTP 503"),
    "a page": (lambda polaris, _: polaris.answer_next(9, body="<html>hello"), "is not the Polaris API"),
    "another API": (lambda polaris, _: polaris.answer_next(9, body="{}"), "is not the Polaris API"),
    "another path": (lambda polaris, _: polaris.answer_next(9, status=404, body="none"), "is not the Polaris API"),
    "a redirect": (lambda polaris, _: polaris.answer_next(9, status=302, body=""), "is not the Polaris API"),
}


@pytest.mark.parametrize(("how", "told"), BROKEN.values(), ids=BROKEN)
def test_the_test_button_names_the_fault(polaris, monkeypatch, how, told):
    connection = json.loads(polaris.connection_json)
    how(polaris, connection)
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(connection))
    hook = PolarisHook()
    ok, message = hook.test_connection()
    hook.close()
    assert not ok
    assert told in message
    assert API_KEY not in message
    assert len(message.split()) <= 25
    assert "polaris_default" not in message, "Airflow tests a connection under a random id"


def test_the_test_button_names_extras_that_are_ignored(polaris, monkeypatch):
    connection = json.loads(polaris.connection_json)
    # The form of Airflow 2.11 tests a connection with each extra twice, with and without this prefix.
    twice = {"extra__imply_polaris__project_id": polaris.project_id}
    connection["extra"] |= {"projectid": "x", "Timeout": 5, **twice}
    monkeypatch.setenv("AIRFLOW_CONN_POLARIS_DEFAULT", json.dumps(connection))
    ok, message = PolarisHook().test_connection()
    assert ok
    assert message.endswith("Ignored: Timeout, projectid")


def test_the_test_button_never_raises(airflow_db):
    ok, message = PolarisHook("no_such_connection").test_connection()
    assert not ok
    assert "no_such_connection" in message
