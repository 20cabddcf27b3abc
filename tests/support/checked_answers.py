"""Check every answer of every local Polaris of the tests against the vendor's OpenAPI document."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_polaris.local import server
from conformance.answers import Answers
from conformance.document import Document


class CheckedAnswers:
    """Checks around the API of a local Polaris.

    Planned faults are outside of it: a test that plans an odd answer needs no exception. A spec of a test may have
    unknown fields, which the job echoes, so undocumented fields are no fault here.

    :ivar faults: what is wrong with the answers since the list was cleared.
    """

    def __init__(self, document: Document) -> None:
        self.faults: list[str] = []
        self._answers = Answers(document, is_strict=False)

    @classmethod
    def of(cls, path: str | None) -> CheckedAnswers | None:
        """Check the answers of all servers against the document of this path, nothing without a path."""
        if not path:
            return None
        checks, shell = cls(Document.load(Path(path))), server.Shell
        server.Shell = lambda app, *rest: shell(checks.around(app), *rest)
        return checks

    def around(self, app):
        """Return an application that answers as this one does, with a check of each answer."""

        async def checked(scope, receive, send):
            path = scope["raw_path"].decode("ascii")
            if not path.startswith("/v1/"):
                await app(scope, receive, send)
                return
            start, body = {}, b""

            async def keep(message):
                nonlocal body
                if message["type"] == "http.response.start":
                    start.update(message)
                else:
                    body += message.get("body", b"")
                await send(message)

            await app(scope, receive, keep)
            if start and scope["method"] != "HEAD":
                headers = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
                found = self._answers.faults(scope["method"], path, start["status"], headers, body)
                self.faults.extend(f"{scope['method']} {path} {start['status']}: {fault}" for fault in found)

        return checked
