"""The errors of connections and calls. This module needs neither Airflow nor an HTTP library.

:mod:`airflow_provider_polaris.exceptions` exports these errors, and adds those that tell Airflow whether to retry.

A base class ends in ``Error``. A class without subclasses says what happened, and has no suffix.
"""

from __future__ import annotations

from typing import Any


class PolarisError(Exception):
    """The base of every error that this provider raises."""


class PolarisUsageError(PolarisError, ValueError):
    """An argument, an option or a connection is invalid. Nothing was sent."""


class PolarisConnectionInvalid(PolarisUsageError):
    """The connection is defined, and its host, password or an extra is invalid."""


class PolarisConnectionMissing(PolarisError):
    """The Airflow connection is not defined where it was looked up."""


class PolarisApiError(PolarisError):
    """A call failed. The error says nothing about the job, which may be running.

    :param message: what happened, in one line, without a secret.
    :param status: the HTTP status of the response, ``None`` if there was no response.
    :param code: the service's own error code, ``None`` if the response has none.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class PolarisTransientError(PolarisApiError):
    """A call failed for a reason that may be temporary: the same call may succeed later.

    :param received: whether the service may have acted on the request. ``False`` only if it cannot have: there was no
        connection, or the response was 429, or the project is too busy for a query.
    :param retry_after: the seconds that the service asked to wait, ``None`` if it did not.
    """

    def __init__(
        self, message: str, *, received: bool = True, retry_after: float | None = None, **response: Any
    ) -> None:
        super().__init__(message, **response)
        self.received = received
        self.retry_after = retry_after


class PolarisUnreachable(PolarisTransientError):
    """No usable connection or response: no connection, a timeout, a cut response, or status 408, 425, 429 or 5xx."""


class PolarisInvalidResponse(PolarisTransientError):
    """A response does not follow the Polaris API, so that a gateway or another service may have sent it.

    It is a redirect, HTML, broken JSON, JSON of a wrong shape, or a 400, 403 or 404 without the service's error code.
    """


class PolarisResponseTooLarge(PolarisApiError):
    """A successful response is too large to be read. Polaris has carried out the request.

    :param location: the ``Location`` header: after a creation, the path of the created job.
    """

    def __init__(self, message: str, *, location: str | None = None, **response: Any) -> None:
        super().__init__(message, **response)
        self.location = location


class PolarisUnauthorized(PolarisApiError):
    """401: the API key is wrong, expired or revoked."""


class PolarisForbidden(PolarisApiError):
    """403: the API key is valid, and lacks a permission."""


class PolarisNotFound(PolarisApiError):
    """404 with the service's error code: the project has no such job or table, or there is no such project."""


class PolarisJobNotFound(PolarisNotFound):
    """Two responses, at least ten seconds apart, report that the project has no such job."""


class PolarisQueryNotFound(PolarisNotFound):
    """Two responses, at least ten seconds apart, report that the project has no such asynchronous query."""


class PolarisBadRequest(PolarisApiError):
    """400, or another status that rejects the request."""


class PolarisConflict(PolarisBadRequest):
    """409: there is something of this name already, or it has changed since it was read."""


class PolarisQueryFailed(PolarisApiError):
    """A query is invalid, or fails: another try of it would fail in the same way.

    :param category: the category of the service, such as ``INVALID_INPUT``, ``TIMEOUT`` or ``RUNTIME_FAILURE``.
    """

    def __init__(self, message: str, *, category: str | None = None, **response: Any) -> None:
        super().__init__(message, **response)
        self.category = category


class PolarisFileExists(PolarisError):
    """The project has another file of the name under which a file is uploaded."""


class PolarisSourceUnreadable(PolarisError):
    """A file to upload does not exist, cannot be read, or was changed while it was sent. Nothing was stored."""


def sentences(*parts: object) -> str:
    """Return one message of several sentences. A part may or may not end with a full stop."""
    texts = [str(part).rstrip(".") for part in parts]
    return " ".join(text if text.endswith(("?", "!")) else f"{text}." for text in texts).removesuffix(".")


def error_to_dict(error: PolarisError) -> dict[str, Any]:
    """Return the error as plain JSON types, for a trigger's event."""
    kinds = [kind.__name__ for kind in type(error).__mro__ if issubclass(kind, PolarisError)]
    data: dict[str, Any] = {"type": kinds[0], "bases": kinds[1:], "message": str(error)}
    if isinstance(error, PolarisApiError):
        data |= {"status": error.status, "code": error.code}
    return data


def error_from_dict(data: Any) -> PolarisError:
    """Return the error that :func:`error_to_dict` described.

    A newer release may have sent an error that this one does not know. Then its nearest known base is returned.
    """
    if not isinstance(data, dict):
        return PolarisError(f"The trigger reported an error of an unknown shape: {data!r}")
    bases = data.get("bases")
    names = [data.get("type"), *(bases if isinstance(bases, list) else [])]
    known = _kinds()
    kind = next((known[name] for name in names if isinstance(name, str) and name in known), PolarisError)
    message = str(data.get("message"))
    if issubclass(kind, PolarisApiError):
        return kind(message, status=data.get("status"), code=data.get("code"))
    return kind(message)


def _kinds() -> dict[str, type[PolarisError]]:
    """Return the errors of this provider by name, those of ``exceptions.py`` included once that is imported."""
    kinds: dict[str, type[PolarisError]] = {}
    found: list[type[PolarisError]] = [PolarisError]
    while found:
        kind = found.pop()
        if kind.__module__.startswith("airflow_provider_polaris."):  # a user's subclass may take other arguments
            kinds[kind.__name__] = kind
        found += kind.__subclasses__()
    return kinds
