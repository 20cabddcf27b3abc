"""A gate decides on every status and health as in a matrix, written by hand for each kind of gate."""

from __future__ import annotations

import pytest

from airflow_provider_polaris.api.models import WARNING_CODES, ExecutionStatus, HealthStatus, Job
from airflow_provider_polaris.gate.decision import UntilOver, decide
from airflow_provider_polaris.gate.options import Gate

#: The columns of each matrix. ``new`` is a status that the provider does not know. A job without a
#: status is no job: its response counts as unreachable, before any gate sees it.
STATUSES = ("pending", "running", "idle", "suspended", "unknown", "completed", "failed", "canceled", "new")
#: The rows of each matrix, as the service sends them: status and code.
HEALTHS = {
    "ok": {"status": "ok"},
    "warn": {"status": "warn"},
    "no_rows": {"status": "warn", "code": "no_rows_found"},
    "unable": {"status": "warn", "code": "unable_to_proceed"},
    "invalid": {"status": "warn", "code": "invalid_rows_found"},
    "lost": {"status": "warn", "code": "lost_connection_to_source"},
    "multiple": {"status": "warn", "code": "multiple"},
    "new_code": {"status": "warn", "code": "brand_new_code"},
    "warning": {"status": "warning", "code": "invalid_rows_found"},  # the vendor's client spells warn so
    "error": {"status": "error", "code": "internal_error"},
    "new": {"status": "brand_new_health"},
    "none": None,
}
#: The letters of a matrix: the verdict, and whether the log has it as a warning.
LETTERS = {
    ".": ("wait", False),
    "!": ("wait", True),
    "P": ("pass", False),
    "W": ("pass", True),
    "R": ("refuse", False),
    "?": ("undecided", False),
}
#: For each gate: a letter for each status, in the order pending, running, idle, suspended, unknown, completed, failed,
#: canceled, new.
MATRICES = {
    "completed": (
        Gate(),
        """
        ok        . . . ! . P R R !
        warn      . . . ! . W R R !
        no_rows   . . . ! . R R R !
        unable    . . . ! . R R R !
        invalid   . . . ! . W R R !
        lost      . . . ! . W R R !
        multiple  . . . ! . ? R R !
        new_code  . . . ! . W R R !
        warning   . . . ! . W R R !
        error     . . . ! . R R R !
        new       . ! ! ! . R R R !
        none      . . . ! . ? R R !
        """,
    ),
    "completed, any warning refuses": (
        Gate(fail_on_warnings=True),
        """
        ok        . . . ! . P R R !
        warn      . . . ! . R R R !
        no_rows   . . . ! . R R R !
        unable    . . . ! . R R R !
        invalid   . . . ! . R R R !
        lost      . . . ! . R R R !
        multiple  . . . ! . R R R !
        new_code  . . . ! . R R R !
        warning   . . . ! . R R R !
        error     . . . ! . R R R !
        new       . ! ! ! . R R R !
        none      . . . ! . ? R R !
        """,
    ),
    "completed, no warning refuses": (
        Gate(fail_on_warnings=frozenset()),
        """
        ok        . . . ! . P R R !
        warn      . . . ! . W R R !
        no_rows   . . . ! . W R R !
        unable    . . . ! . W R R !
        invalid   . . . ! . W R R !
        lost      . . . ! . W R R !
        multiple  . . . ! . W R R !
        new_code  . . . ! . W R R !
        warning   . . . ! . W R R !
        error     . . . ! . R R R !
        new       . ! ! ! . R R R !
        none      . . . ! . ? R R !
        """,
    ),
    "completed, an unhealthy job refuses": (
        Gate(fail_on_unhealthy=True),
        """
        ok        . . . ! . P R R !
        warn      . . . ! . W R R !
        no_rows   . . . ! . R R R !
        unable    . . . ! . R R R !
        invalid   . . . ! . W R R !
        lost      . . . ! . W R R !
        multiple  . . . ! . ? R R !
        new_code  . . . ! . W R R !
        warning   . . . ! . W R R !
        error     . R R ! . R R R !
        new       . ! ! ! . R R R !
        none      . . . ! . ? R R !
        """,
    ),
    "completed, counters needed and unknown": (
        Gate(min_rows_processed=1),
        """
        ok        . . . ! . ? R R !
        warn      . . . ! . ? R R !
        no_rows   . . . ! . R R R !
        unable    . . . ! . R R R !
        invalid   . . . ! . ? R R !
        lost      . . . ! . ? R R !
        multiple  . . . ! . ? R R !
        new_code  . . . ! . ? R R !
        warning   . . . ! . ? R R !
        error     . . . ! . R R R !
        new       . ! ! ! . R R R !
        none      . . . ! . ? R R !
        """,
    ),
    "running": (
        Gate(wait_for="running"),
        """
        ok        . P P ! . R R R !
        warn      . W W ! . R R R !
        no_rows   . W W ! . R R R !
        unable    . W W ! . R R R !
        invalid   . W W ! . R R R !
        lost      . W W ! . R R R !
        multiple  . W W ! . R R R !
        new_code  . W W ! . R R R !
        warning   . W W ! . R R R !
        error     . . . ! . R R R !
        new       . ! ! ! . R R R !
        none      . . . ! . R R R !
        """,
    ),
    "running, an unhealthy job refuses": (
        Gate(wait_for="running", fail_on_unhealthy=True),
        """
        ok        . P P ! . R R R !
        warn      . W W ! . R R R !
        no_rows   . W W ! . R R R !
        unable    . W W ! . R R R !
        invalid   . W W ! . R R R !
        lost      . W W ! . R R R !
        multiple  . W W ! . R R R !
        new_code  . W W ! . R R R !
        warning   . W W ! . R R R !
        error     . R R ! . R R R !
        new       . ! ! ! . R R R !
        none      . . . ! . R R R !
        """,
    ),
    # What a cancellation waits for: any end of the job passes.
    "over": (
        UntilOver(),
        """
        ok        . . . . . P P P .
        warn      . . . . . P P P .
        no_rows   . . . . . P P P .
        unable    . . . . . P P P .
        invalid   . . . . . P P P .
        lost      . . . . . P P P .
        multiple  . . . . . P P P .
        new_code  . . . . . P P P .
        warning   . . . . . P P P .
        error     . . . . . P P P .
        new       . . . . . P P P .
        none      . . . . . P P P .
        """,
    ),
}


def states_in(name):
    """Yield the cells of a matrix as arguments of the test: the gate, the status, the health and the letter."""
    gate, matrix = MATRICES[name]
    for line in matrix.split("\n"):
        health, *letters = line.split() or [None]
        for status, letter in zip(STATUSES, letters, strict=health is not None):
            yield pytest.param(gate, status, health, letter, id=f"{name}-{status}-{health}")


@pytest.mark.parametrize(
    ("gate", "status", "health", "letter"), [cell for name in MATRICES for cell in states_in(name)]
)
def test_a_gate_decides_on_each_state_as_in_the_matrix(gate, status, health, letter):
    job = {
        "id": "j",
        "type": "streaming" if getattr(gate, "wait_for", None) == "running" else "batch",
        "executionStatus": {"new": "brand_new_status"}.get(status, status),
        "health": HEALTHS[health],
    }
    decision = decide(Job.from_api(job), gate)
    assert (decision.verdict.value, decision.warn) == LETTERS[letter]


def test_the_matrices_have_every_known_status_health_and_warning_code():
    assert set(STATUSES) >= ExecutionStatus.known
    assert {health["status"] for health in HEALTHS.values() if health} >= HealthStatus.known
    assert {health.get("code") for health in HEALTHS.values() if health} >= WARNING_CODES
    for name in MATRICES:
        assert len(list(states_in(name))) == len(STATUSES) * len(HEALTHS)
