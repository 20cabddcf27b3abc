"""The connection form of Airflow in a browser: one face for the forms of 2.11 and 3.x."""

from __future__ import annotations

import re

from tests.support.airflow_versions import AIRFLOW_3


class Form:
    """What both forms have in common."""

    def fill(self, values):
        """Fill in fields by their names. The extra comes last: its section folds the standard fields."""
        for name, value in values.items():
            (self.extra_field if name == "project_id" else self.field)(name).fill(value)


def _labels(locator):
    """Return the labels of the fields that belong to the type of the connection."""
    texts = [text.strip() for text in locator.all_inner_texts()]
    return [text for text in texts if text and not text.startswith("Connection")]


class Form3(Form):
    """The connection form of Airflow 3.x, and the button in the list of connections."""

    def __init__(self, url, page):
        self.url, self.page = f"{url}/connections", page

    def add(self, conn_id):
        self.page.goto(self.url)
        self.page.get_by_role("button", name="Add Connection").click()
        self.field("connection_id").fill(conn_id)
        self._dialog.locator("input[role=combobox]").first.click()
        self.page.keyboard.type("Imply")
        self.page.keyboard.press("Enter")
        self.field("host").wait_for()

    def reopen(self, conn_id):
        self.page.goto(self.url)
        self._row(conn_id).get_by_role("button", name="Edit Connection").click()
        self.field("host").wait_for()

    @property
    def _dialog(self):
        return self.page.locator("[role=dialog][data-state=open]")

    def _row(self, conn_id):
        return self.page.locator("tr", has_text=conn_id)

    def labels(self):
        return _labels(self._dialog.locator("label"))

    def field(self, name):
        return self._dialog.locator(f"[name={name}]")

    def extra_field(self, name):
        """Return the field of an extra. Its section is shown, which folds the standard fields."""
        field = self.field(f"element_{name}")
        if not field.is_visible():
            self._dialog.get_by_role("button", name="Extra Fields", exact=True).click()
            field.wait_for()
        return field

    def save(self):
        self._dialog.get_by_role("button", name="Save").click()
        self._dialog.wait_for(state="hidden")

    def test_and_save(self, conn_id):
        """Save, and press the test button in the list. Return the answer that the page shows."""
        self.save()
        self.page.goto(self.url)
        with self.page.expect_response("**/connections/test") as seen:
            self._row(conn_id).get_by_role("button", name="Test Connection").click()
        self.page.get_by_text(re.compile("Test Connection (Successful|Failed)")).wait_for()
        return seen.value.json()["message"]


class Form2(Form):
    """The connection form of Airflow 2.11, which has the test button itself."""

    def __init__(self, url, page):
        self.url, self.page = f"{url}/connection", page

    def add(self, conn_id):
        self.page.goto(f"{self.url}/add")
        self.page.select_option("#conn_type", "imply_polaris")
        self.page.locator("#conn_id").fill(conn_id)
        self.extra_field("project_id").wait_for()

    def reopen(self, conn_id):
        self.page.goto(f"{self.url}/list/")
        self.page.locator("tr", has_text=conn_id).locator("a[href*='/connection/edit/']").click()
        self.extra_field("project_id").wait_for()

    def labels(self):
        return _labels(self.page.locator("form label:visible"))

    def field(self, name):
        return self.page.locator(f"#{name}")

    def extra_field(self, name):
        return self.page.locator(f"#extra__imply_polaris__{name}")

    def save(self):
        with self.page.expect_navigation():
            self.page.get_by_role("button", name="Save").click()

    def test_and_save(self, conn_id):
        """Press the test button of the form, and save. Return the answer that the page shows."""
        with self.page.expect_response("**/connections/test") as seen:
            self.page.locator("#test-connection").click()
        message = seen.value.json()["message"]
        self.page.get_by_text(message[:60]).wait_for()
        self.save()
        return message


def connection_form(url, page):
    """Return the form of this Airflow.

    :param url: the address of Airflow.
    """
    return Form3(url, page) if AIRFLOW_3 else Form2(url, page)
