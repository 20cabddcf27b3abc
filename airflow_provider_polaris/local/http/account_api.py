"""The calls of the local Polaris on the API key and the project."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from airflow_provider_polaris.local.http.answers import Endpoint


class AccountApi:
    """Answers which permissions the key has, and in which state the project is.

    :param permissions: returns the permissions of the key.
    """

    def __init__(self, project_id: str, permissions: Callable[[], Iterable[str]]) -> None:
        self._project_id = project_id
        self._permissions = permissions
        #: ``running``, ``paused``, …. Jobs run in each state.
        self.state = "running"

    def set_state(self, state: str) -> None:
        """Report this state from now on."""
        self.state = state

    def endpoints(self) -> list[Endpoint]:
        """Return the calls, with their whole paths."""
        return [
            Endpoint("GET", "/v1/apikeyinfo", self._key),
            Endpoint("GET", "/v1/projects/{project}", self._project),
        ]

    async def _key(self, _request: Request) -> Response:
        return JSONResponse({"id": "local-key", "permissions": sorted(self._permissions())})

    async def _project(self, _request: Request) -> Response:
        return JSONResponse(
            {
                "metadata": {"uid": self._project_id, "name": "local"},
                "spec": {"plan": "local"},
                "status": {"state": self.state},
            }
        )
