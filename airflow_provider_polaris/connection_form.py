"""The connection form, declared once. Its imports are light: Airflow reads the form for every process that it starts.

Airflow 3.2 and later take the form from :mod:`~airflow_provider_polaris.get_provider_info`. Airflow 2.11 to 3.1 take it
from the hook's classmethods. Both return the data of this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_polaris.api.connection import AUTH_FORMS, DEFAULT_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS

#: The form shows the port: Airflow 3.3.1 and 3.3.2 send ``port: 0`` to test a connection without a port, and their own
#: check then rejects the test with a bare "Bad Request" (apache/airflow#73298).
HIDDEN = ("login", "schema")
RELABELING = {"host": "API endpoint", "port": "Port", "password": "API key"}
PLACEHOLDERS = {
    "host": "ORG.REGION.CLOUD.api.imply.io",
    "port": "443 (Airflow 3.3 needs it to test the connection)",
    "password": "pok_… (Airflow hides a saved key)",
}

#: Label, help text and JSON schema of each extra, by its name. Every extra is optional, so every schema allows null.
FIELDS: Mapping[str, dict[str, Any]] = {
    "project_id": {
        "label": "Project ID",
        "description": "Required here or in the task. The console's address bar shows it.",
        "schema": {"type": ["string", "null"]},
    },
    "auth": {
        "label": "Authentication",
        "description": "How the API key is sent: by itself (api_key), or as a user name (basic). "
        "With bearer, the password is an access token, which expires after five minutes.",
        "schema": {"type": ["string", "null"], "enum": list(AUTH_FORMS), "default": AUTH_FORMS[0]},
    },
    "timeout": {
        "label": "Timeout in seconds",
        "description": f"How long to wait for a response; {DEFAULT_TIMEOUT_SECONDS:g} s if empty.",
        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": MAX_TIMEOUT_SECONDS},
    },
    "verify": {
        "label": "Check the certificate",
        "description": "Whether to check the server's certificate, true if empty. Or the path of a CA bundle.",
        "schema": {"type": ["string", "null"]},
    },
    "allow_http": {
        "label": "Allow plain http",
        "description": "Allow to send the API key unencrypted to a host other than this machine.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "job_url_template": {
        "label": "Address of a job's page",
        "description": "The web page of a job, with {project_id} and {job_id}. The organisation's console if empty.",
        "schema": {"type": ["string", "null"]},
    },
}


def declared() -> dict[str, Any]:
    """Return the form for the provider's metadata."""
    return {
        "ui-field-behaviour": {name.replace("_", "-"): value for name, value in field_behaviour().items()},
        "conn-fields": {name: dict(field) for name, field in FIELDS.items()},
    }


def field_behaviour() -> dict[str, Any]:
    """Return the result of the hook's ``get_ui_field_behaviour``.

    Airflow 2.11 shows the raw JSON of the extras beside their fields. Without that box, the test button of a saved
    connection has no effect: the script of the page needs the editor of the box.
    """
    return {"hidden_fields": list(HIDDEN), "relabeling": dict(RELABELING), "placeholders": dict(PLACEHOLDERS)}


def widgets() -> dict[str, Any]:
    """Return the result of the hook's ``get_connection_form_widgets``.

    All fields are optional text fields. A form with an empty integer field cannot be saved, and shows no error.
    """
    from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    from wtforms import StringField
    from wtforms.validators import Optional

    return {
        name: StringField(
            field["label"], widget=BS3TextFieldWidget(), validators=[Optional()], description=field["description"]
        )
        for name, field in FIELDS.items()
    }
