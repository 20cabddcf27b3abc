"""The errors: how they are named, and how they get through a trigger's event."""

from __future__ import annotations

import json

import pytest

from airflow_provider_polaris import exceptions
from airflow_provider_polaris.api.errors import error_from_dict, error_to_dict, sentences
from airflow_provider_polaris.exceptions import (
    PolarisApiError,
    PolarisError,
    PolarisInvalidResponse,
    PolarisJobNotFound,
    PolarisNotFound,
    PolarisTransientError,
    PolarisUnreachable,
)

KINDS = [getattr(exceptions, name) for name in exceptions.__all__]


def all_kinds(kind: type[PolarisError] = PolarisError) -> set[type[PolarisError]]:
    """Return the errors of this provider, and not those that a test defines."""
    below = set().union(*(all_kinds(sub) for sub in kind.__subclasses__()))
    return below | ({kind} if kind.__module__.startswith("airflow_provider_polaris.") else set())


def breaks_the_naming_rule(kind: type[Exception]) -> bool:
    """A class without subclasses says what happened. Only a base class ends in Error."""
    return kind.__name__.endswith("Error") and not kind.__subclasses__()


def test_every_error_is_exported_and_listed():
    assert all_kinds() == set(KINDS)
    assert exceptions.__all__ == sorted(exceptions.__all__)
    assert [kind.__name__ for kind in KINDS if f":class:`{kind.__name__}`" not in exceptions.__doc__] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_only_a_base_class_ends_in_error(kind):
    assert not breaks_the_naming_rule(kind)


def test_an_error_that_breaks_the_naming_rule_is_found():
    class NewError(PolarisError):
        """Has no subclass."""

    assert breaks_the_naming_rule(NewError)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_gets_through_an_event(kind):
    error = kind("what happened", status=503, code="C") if issubclass(kind, PolarisApiError) else kind("what happened")
    returned = error_from_dict(json.loads(json.dumps(error_to_dict(error))))
    assert type(returned) is kind
    assert str(returned) == "what happened"
    assert getattr(returned, "status", None) == getattr(error, "status", None)
    assert getattr(returned, "code", None) == getattr(error, "code", None)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"type": "PolarisTeapot", "bases": ["PolarisTransientError", "PolarisApiError"]}, PolarisTransientError),
        ({"type": "PolarisTeapot", "bases": ["PolarisHot", "PolarisNotFound", "PolarisApiError"]}, PolarisNotFound),
        ({"type": "PolarisTeapot", "bases": ["PolarisHot"]}, PolarisError),
        ({"type": "PolarisTeapot"}, PolarisError),
        ({"type": "PolarisTeapot", "bases": "PolarisNotFound"}, PolarisError),
        ({"type": "PolarisUnreachable"}, PolarisUnreachable),  # an event of a release before "bases"
        ({"type": "ValueError", "bases": ["Exception"]}, PolarisError),
        ({"type": ["PolarisNotFound"], "bases": [1, None]}, PolarisError),
        ({}, PolarisError),
    ],
)
def test_an_unknown_error_becomes_its_nearest_known_base(data, kind):
    returned = error_from_dict({**data, "message": "hot", "status": 418})
    assert type(returned) is kind
    assert str(returned) == "hot"


def test_an_error_of_an_unknown_shape_is_quoted():
    assert str(error_from_dict([1])) == "The trigger reported an error of an unknown shape: [1]"


def test_an_event_names_the_bases_of_an_error_nearest_first():
    assert error_to_dict(PolarisJobNotFound("gone", status=404, code="NotFound")) == {
        "type": "PolarisJobNotFound",
        "bases": ["PolarisNotFound", "PolarisApiError", "PolarisError"],
        "message": "gone",
        "status": 404,
        "code": "NotFound",
    }


def test_a_users_own_error_arrives_as_its_base():
    class Own(PolarisInvalidResponse):
        """Takes other arguments."""

        def __init__(self) -> None:
            super().__init__("own")

    assert type(error_from_dict(error_to_dict(Own()))) is PolarisInvalidResponse


def test_received_and_retry_after_belong_to_transient_errors():
    error = PolarisUnreachable("busy", received=False, retry_after=7.0, status=429)
    assert (error.received, error.retry_after, error.status) == (False, 7.0, 429)
    assert (PolarisInvalidResponse("html").received, PolarisInvalidResponse("html").retry_after) == (True, None)
    assert not hasattr(PolarisNotFound("gone"), "retry_after")


@pytest.mark.parametrize(
    ("parts", "message"),
    [(("One", "Two"), "One. Two"), (("One.", "Two."), "One. Two"), (("One?", "Two!"), "One? Two!"), (("One",), "One")],
)
def test_sentences_are_joined_with_one_full_stop(parts, message):
    assert sentences(*parts) == message
