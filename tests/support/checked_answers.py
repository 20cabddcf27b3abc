"""Check every answer of every local Polaris of the tests against the vendor's OpenAPI document."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_polaris.local import server
from conformance.answers import Answers
from conformance.document import Document


class CheckedAnswers:
    """Puts a check around the API of each local Polaris that this process starts.

    Planned faults are outside of it: a test that plans an odd answer needs no exception. A spec of a test may have
    unknown fields, which the job echoes, so undocumented fields are no fault here.

    :ivar faults: what is wrong with the answers since the list was cleared.
    """

    def __init__(self, path: Path) -> None:
        self.faults: list[str] = []
        self._answers = Answers(Document.load(path), is_strict=False)
        shell = server.Shell
        server.Shell = lambda app, *rest: shell(self._checked(app), *rest)

    @classmethod
    def of(cls, path: str | None) -> CheckedAnswers | None:
        """Check the answers against the document of this path, nothing without a path."""
        return cls(Path(path)) if path else None

    def _checked(self, app):
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
