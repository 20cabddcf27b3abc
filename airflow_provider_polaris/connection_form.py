"""The connection form, declared once. Pure data: Airflow reads it before it imports anything of the provider.

Airflow 3.2 and up shows what :mod:`~airflow_provider_polaris.get_provider_info` declares; 2.11 to 3.1 ask the hook's
classmethods. Both are made of what stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HIDDEN = ("login", "port", "schema")
RELABELING = {"host": "API endpoint", "password": "API key"}
PLACEHOLDERS = {"host": "ORG.REGION.CLOUD.api.imply.io", "password": "pok_…"}

#: The extras, by name: label, help text, and the JSON schema of the value, which may always be left out.
FIELDS: Mapping[str, dict[str, Any]] = {
    "project_id": {
        "label": "Project id",
        "description": "Required, here or in the task. It stands in the console's address bar.",
        "schema": {"type": ["string", "null"]},
    },
    "auth": {
        "label": "Authentication",
        "description": "How the API key is sent: as it is (api_key), or as a user name (basic).",
        "schema": {"type": ["string", "null"], "enum": ["api_key", "basic"], "default": "api_key"},
    },
    "timeout": {
        "label": "Timeout",
        "description": "Seconds to wait for an answer; 30 if empty.",
        "schema": {"type": ["number", "null"], "minimum": 1, "maximum": 600},
    },
    "verify": {
        "label": "Verify TLS",
        "description": "Empty or true checks the server's certificate, false does not; or the path of a CA bundle.",
        "schema": {"type": ["string", "null"]},
    },
    "allow_http": {
        "label": "Allow http://",
        "description": "Send the API key in the clear to a host that is not this machine.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "job_url_template": {
        "label": "Job URL template",
        "description": "Where a job is shown, with {project_id} and {job_id} in it. Empty: the organisation's console.",
        "schema": {"type": ["string", "null"]},
    },
}


def declared() -> dict[str, Any]:
    """Return the form as provider metadata has it."""
    return {
        "ui-field-behaviour": {
            "hidden-fields": list(HIDDEN),
            "relabeling": dict(RELABELING),
            "placeholders": dict(PLACEHOLDERS),
        },
        "conn-fields": {name: dict(field) for name, field in FIELDS.items()},
    }


def field_behaviour() -> dict[str, Any]:
    """Return what the hook's ``get_ui_field_behaviour`` answers."""
    return {"hidden_fields": list(HIDDEN), "relabeling": dict(RELABELING), "placeholders": dict(PLACEHOLDERS)}


def widgets() -> dict[str, Any]:
    """Return what the hook's ``get_connection_form_widgets`` answers.

    Text fields only, each optional: an integer field that is left empty keeps the form from being saved, silently.
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
