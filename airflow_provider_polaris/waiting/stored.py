"""Dataclasses that cross a process as a dict of plain JSON types, and how each value is read again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from airflow_provider_polaris.api.connection import is_id
from airflow_provider_polaris.api.errors import PolarisError, error_to_dict
from airflow_provider_polaris.api.models import Job
from airflow_provider_polaris.api.parsing import clip

#: Returns a value of the dict as the field has it. Raises WrongType.
Reader = Callable[[Any], Any]
Stored = TypeVar("Stored", bound="StoredDict")


class WrongType(Exception):
    """A value has not the type that its key requires. The message names the required type."""


def _instance_of(kind: type | tuple[type, ...], expected: str) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise WrongType(expected)
        return value

    return read


def one_of(*values: str) -> Reader:
    """Return a reader that takes one of these texts."""

    def read(value: Any) -> Any:
        if value not in values:
            raise WrongType(f"one of {', '.join(values)}")
        return value

    return read


def optional_of(read: Reader) -> Reader:
    """Return a reader that also takes ``None``."""
    return lambda value: None if value is None else read(value)


def job_of(value: Any) -> Job:
    """Read a job in the API's own form. The job does not keep that form: a thousand triggers have a job each."""
    try:
        return replace(Job.from_api(value), raw={})
    except PolarisError:
        raise WrongType("a job") from None


def list_of_texts(value: Any) -> list[str]:
    """Read a list of texts."""
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise WrongType("a list of texts")
    return value


def list_of_ids(value: Any) -> list[str]:
    """Read a list of ids that Polaris can have given."""
    if not isinstance(value, list) or not all(map(is_id, value)):
        raise WrongType("a list of ids")
    return value


def numbers_by_text(value: Any) -> dict[str, float]:
    """Read an object whose values are numbers."""
    if not isinstance(value, dict) or not all(isinstance(moment, (int, float)) for moment in value.values()):
        raise WrongType("an object of numbers")
    return value


def moment_of(value: Any) -> datetime:
    """Read a date and time in ISO 8601."""
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise WrongType("a date and time in ISO 8601") from None


text_type = _instance_of(str, "text")
number_type = _instance_of((int, float), "a number")
count_type = _instance_of(int, "a whole number")
flag_type = _instance_of(bool, "true or false")
dict_type = _instance_of(dict, "an object")


def _plain(value: Any) -> Any:
    """Return the value as plain JSON types."""
    if isinstance(value, Job):
        return value.to_event()
    if isinstance(value, PolarisError):
        return error_to_dict(value)
    if isinstance(value, StoredDict):
        return value.to_dict()
    return value.isoformat() if isinstance(value, datetime) else value


class StoredDict:
    """A dataclass that is stored as a dict of plain JSON types."""

    #: What the dict is, as the subject of an error message.
    _name: ClassVar[str]
    #: How the value of each key is read.
    _readers: ClassVar[dict[str, Reader]]

    def to_dict(self) -> dict[str, Any]:
        """Return the stored form."""
        return {known.name: _plain(getattr(self, known.name)) for known in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls: type[Stored], data: Any) -> Stored:
        """Read the stored form. Raises PolarisError if a key is missing or has a value of a wrong type."""
        if not isinstance(data, Mapping):
            raise PolarisError(f"{cls._name} must be an object, not {clip(repr(data), 100)}")
        values: dict[str, Any] = {}
        faults = []
        for known in fields(cls):  # type: ignore[arg-type]
            if known.name not in data:
                if known.default is MISSING and known.default_factory is MISSING:
                    faults.append(f"{known.name!r} is missing")
                continue
            value = data[known.name]
            try:
                values[known.name] = cls._readers[known.name](value)
            except WrongType as error:
                faults.append(f"{known.name!r} must be {error}, not {clip(repr(value), 100)}")
        if faults:
            raise PolarisError(f"{cls._name} cannot be read: {'; '.join(faults)}")
        return cls(**values)
