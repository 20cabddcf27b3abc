"""Send requests to a local Polaris, and check every answer against the document."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import requests

from airflow_provider_polaris.local import LocalPolaris
from conformance.answers import Answers

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")
_NUMBER = re.compile(r"\[\d+\]")


class Client:
    """One connection to a local Polaris.

    :ivar checked: how many answers were checked.
    :ivar faults: what is wrong with the answers, and how often it was seen.
    """

    def __init__(self, polaris: LocalPolaris, answers: Answers) -> None:
        self._polaris = polaris
        self._answers = answers
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Basic {polaris.api_key}"
        self.checked = 0
        self.faults: Counter[str] = Counter()

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request; the path is below the project unless it starts with a slash."""
        below = "" if path.startswith("/") else f"/v1/projects/{self._polaris.project_id}/"
        url = f"{self._polaris.url}{below}{path}"
        answer = self._session.request(method, url, timeout=30, **options)
        self.check(answer)
        return answer

    def check(self, answer: requests.Response) -> None:
        """Check an answer."""
        request = answer.request
        path = (request.path_url or "").partition("?")[0]
        headers = {name.lower(): value for name, value in answer.headers.items()}
        self.checked += 1
        for fault in self._answers.faults(request.method or "", path, answer.status_code, headers, answer.content):
            call = f"{request.method} {path.rpartition(self._polaris.project_id)[2]}: {fault}"
            self.faults[_NUMBER.sub("[]", _ID.sub("ID", call))] += 1

    def close(self) -> None:
        """Close the connection."""
        self._session.close()
