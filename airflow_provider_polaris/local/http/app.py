"""Routes, authentication and permissions of the local Polaris."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from airflow_provider_polaris.local.engine.timestamps import now
from airflow_provider_polaris.local.http.answers import ApiError, Endpoint, on_error
from airflow_provider_polaris.local.http.connections_api import PERMISSION as CONNECTIONS
from airflow_provider_polaris.local.http.files_api import MANAGE_FILES
from airflow_provider_polaris.local.http.jobs_api import PERMISSION
from airflow_provider_polaris.local.http.query_api import QUERY
from airflow_provider_polaris.local.http.tables_api import SEE_TABLES

#: All permissions that a key can have.
PERMISSIONS = frozenset({*PERMISSION, *MANAGE_FILES, *SEE_TABLES, *QUERY, *CONNECTIONS})


#: How long an access token is accepted, in seconds.
TOKEN_SECONDS = 300.0


class TokenExpired(Exception):
    """The access token has expired. The service answers in another shape than its other errors."""


async def _on_expired(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"message": 'Token claims invalid: ["exp"]="token expired"'}, 401)


_HANDLERS = {HTTPException: on_error, TokenExpired: _on_expired, Exception: on_error}


class Gatekeeper:
    """Passes a request to its endpoint if key, project and permissions are right. There is one project and one key."""

    def __init__(self, project_id: str, api_key: str) -> None:
        self.project_id = project_id
        self.api_key = api_key
        self.permissions: frozenset[str] = PERMISSIONS
        #: When each access token expires, in seconds since the epoch.
        self._tokens: dict[str, float] = {}

    def new_token(self) -> str:
        """Return a new access token with the permissions of the key."""
        token = secrets.token_urlsafe(24)
        self._tokens[token] = now() + TOKEN_SECONDS
        return token

    def app(self, api: Iterable[Endpoint], whole: Iterable[Endpoint]) -> Any:
        """Return the application to serve.

        :param api: the service's endpoints, their paths under the project.
        :param whole: further endpoints, with their whole paths.
        """
        routes = [
            *(self._route(f"/v1/projects/{{project}}{endpoint.path}", endpoint) for endpoint in api),
            *(self._route(endpoint.path, endpoint) for endpoint in whole),
        ]
        return Starlette(routes=routes, exception_handlers=_HANDLERS)

    def _route(self, path: str, endpoint: Endpoint) -> Route:
        return Route(path, self._checked(endpoint), methods=[endpoint.method])

    def _checked(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def checked(request: Request) -> Response:
            if endpoint.needs_key:
                self._authenticate(request)
            if request.path_params.get("project", self.project_id) != self.project_id:
                raise ApiError(404, "There is no such project", "projectId")
            if lacks := self._lacks(endpoint):
                raise ApiError(403, f"The API key lacks the permission {lacks}")
            return await endpoint.answer(request)

        return checked

    def _lacks(self, endpoint: Endpoint) -> str:
        """Return the permissions that the key lacks for a call; an empty text if it has all that the call needs."""
        missing = [one for one in endpoint.permissions if one not in self.permissions]
        if endpoint.needs_all:
            return " and ".join(missing)
        return " or ".join(missing) if len(missing) == len(endpoint.permissions) else ""

    def _authenticate(self, request: Request) -> None:
        """Accept the plain key, as documented, the key as a user name, as the client and the page do, or a token."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and given in self._tokens:
            if now() < self._tokens[given]:
                return
            raise TokenExpired
        user = f"{self.api_key}:".encode()
        right = (self.api_key.encode(), base64.urlsafe_b64encode(user), base64.b64encode(user))
        if scheme.lower() != "basic" or not any(secrets.compare_digest(given.encode(), one) for one in right):
            raise ApiError(401, "The API key is missing or wrong")
