"""Check every answer of the local Polaris of a test against the vendor's OpenAPI document."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_polaris.local import server
from conformance.answers import Answers
from conformance.document import Document


class CheckedAnswers:
    """Keeps the answers of a local Polaris until a test is over: a check of a large answer would delay others.

    Planned faults are not kept: a test that plans an odd answer needs no exception. A spec of a test may have unknown
    fields, which the job echoes, so undocumented fields are no fault here. Results of queries are not kept: the schema
    of the document is that of one of their five formats only.
    """

    def __init__(self, document: Document) -> None:
        self._answers = Answers(document, is_strict=False)
        self._kept = []

    @classmethod
    def of(cls, path: str | None) -> CheckedAnswers | None:
        """Keep the answers of all servers, for the document of this path; nothing without a path."""
        if not path:
            return None
        checks, shell = cls(Document.load(Path(path))), server.Shell
        server.Shell = lambda app, *rest: shell(checks.around(app), *rest)
        return checks

    def clear(self) -> None:
        """Forget the answers."""
        self._kept.clear()

    def faults(self) -> list[str]:
        """Return what is wrong with the answers since the last call, and forget them."""
        kept, self._kept[:] = list(self._kept), []
        return [
            f"{method} {path} {status}: {fault}"
            for method, path, status, headers, body in kept
            for fault in self._answers.faults(method, path, status, headers, body)
        ]

    def around(self, app):
        """Return an application that answers as this one does, and whose answers are kept."""

        async def kept(scope, receive, send):
            method, path = scope["method"], scope["raw_path"].decode("ascii")
            if (
                method == "HEAD"
                or not path.startswith("/v1/")
                or path.partition("?")[0].endswith(("/query/sql", "/results"))
            ):
                await app(scope, receive, send)
                return
            start, body = {}, b""

            async def keep(message):
                nonlocal body
                if message["type"] == "http.response.start":
                    start.update(message)
                else:
                    body += message.get("body", b"")
                if start and message["type"] == "http.response.body" and not message.get("more_body"):
                    headers = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
                    self._kept.append((method, path, start["status"], headers, body))
                await send(message)

            await app(scope, receive, keep)

        return kept
