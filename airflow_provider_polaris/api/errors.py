"""What can go wrong between this provider and Polaris; knows nothing of Airflow or of HTTP libraries.

:mod:`airflow_provider_polaris.exceptions` re-exports all of it, and adds the errors that tell Airflow what to do.
"""

from __future__ import annotations

from typing import Any


class PolarisError(Exception):
    """The base of everything this provider raises on its own account."""


def sentences(*parts: object) -> str:
    """Return a message of several sentences, whatever sign each of them ends with."""
    texts = [str(part).rstrip(".") for part in parts]
    return " ".join(text if text.endswith(("?", "!")) else f"{text}." for text in texts).removesuffix(".")


class PolarisUsageError(PolarisError, ValueError):
    """The DAG or the connection asks for something that cannot work: a wrong id, threshold, host or gate."""


class PolarisConnectionInvalid(PolarisUsageError):
    """The Airflow connection is defined and cannot work: its host, password or an extra is wrong."""


class PolarisApiError(PolarisError):
    """A call to the Polaris API did not bring a usable answer; the job itself may be perfectly well.

    :param message: what happened, in one line, with no secret in it.
    :param status: the HTTP status of the answer, ``None`` if none came.
    :param code: the service's own error code, ``None`` if the answer is not in the service's error shape.
    :param retry_after: how many seconds the service asked to wait, if it did.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class PolarisUnreachable(PolarisApiError):
    """Polaris could not be reached, or answered something that is not the Polaris API: worth trying again.

    Connection errors, timeouts, 429 and 5xx, redirects, HTML, broken JSON, JSON of the wrong shape, and a 404 that a
    gateway made up.

    :param received: whether the service may have acted on the request. ``False`` only where it cannot have: the
        connection was never made, or it answered 429.
    """

    def __init__(self, message: str, *, received: bool = True, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.received = received


class PolarisUnauthorized(PolarisApiError):
    """401: the API key is wrong, expired or revoked."""


class PolarisForbidden(PolarisApiError):
    """403: the API key is valid and may not do this."""


class PolarisNotFound(PolarisApiError):
    """404 in the service's own error shape: there is no such thing in this project."""


class PolarisJobNotFound(PolarisNotFound):
    """Polaris said twice, at least ten seconds apart, that it has no such job."""


class PolarisBadRequest(PolarisApiError):
    """400, or any other answer that blames the request."""


class PolarisConnectionMissing(PolarisError):
    """The Airflow connection is not defined where it was looked up."""


_BY_NAME: dict[str, type[PolarisError]] = {
    kind.__name__: kind
    for kind in (
        PolarisError,
        PolarisUsageError,
        PolarisConnectionInvalid,
        PolarisApiError,
        PolarisUnreachable,
        PolarisUnauthorized,
        PolarisForbidden,
        PolarisNotFound,
        PolarisJobNotFound,
        PolarisBadRequest,
        PolarisConnectionMissing,
    )
}


def error_to_dict(error: PolarisError) -> dict[str, Any]:
    """Return the error as plain JSON types, for a trigger's event."""
    name = type(error).__name__
    data: dict[str, Any] = {"type": name if name in _BY_NAME else "PolarisError", "message": str(error)}
    if isinstance(error, PolarisApiError):
        data |= {"status": error.status, "code": error.code}
    return data


def error_from_dict(data: Any) -> PolarisError:
    """Return the error that :func:`error_to_dict` described; a shape it cannot know becomes a plain PolarisError."""
    if not isinstance(data, dict):
        return PolarisError(f"The trigger reported an error of an unknown shape: {data!r}")
    kind = _BY_NAME.get(str(data.get("type")), PolarisError)
    message = str(data.get("message"))
    if issubclass(kind, PolarisApiError):
        return kind(message, status=data.get("status"), code=data.get("code"))
    return kind(message)
