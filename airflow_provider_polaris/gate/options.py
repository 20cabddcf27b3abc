"""The options of a gate, read and checked. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_polaris.api.connection import rendered_to_nothing
from airflow_provider_polaris.api.errors import PolarisUsageError
from airflow_provider_polaris.api.models import WARNING_CODES
from airflow_provider_polaris.api.parsing import clip

_CODE = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Gate:
    """The state and counters that a job needs before downstream tasks may run.

    :meth:`from_options` checks the options. A threshold of ``None`` is not checked.
    """

    wait_for: Literal["completed", "running"] = "completed"
    #: The warning codes that refuse a completed job; ``True`` for any warning.
    fail_on_warnings: Literal[True] | frozenset[str] = frozenset({"no_rows_found", "unable_to_proceed"})
    fail_on_unhealthy: bool = False
    min_rows_processed: int | None = None
    max_rows_skipped_by_error: int | None = None
    max_rows_with_warning: int | None = None
    #: Between 0 and 1: skippedByError / (processed + withWarning + skippedByError).
    max_error_ratio: float | None = None

    @classmethod
    def from_options(
        cls,
        *,
        wait_for: Any,
        fail_on_warnings: Any,
        fail_on_unhealthy: Any,
        min_rows_processed: Any,
        max_rows_skipped_by_error: Any,
        max_rows_with_warning: Any,
        max_error_ratio: Any,
    ) -> Gate:
        """Read an operator's rendered options. Numbers may be text. Raises PolarisUsageError for an invalid option."""
        if wait_for not in ("completed", "running"):
            raise PolarisUsageError(f"wait_for must be 'completed' or 'running', not {wait_for!r}")
        if not isinstance(fail_on_unhealthy, bool):
            raise PolarisUsageError(f"fail_on_unhealthy must be True or False, not {fail_on_unhealthy!r}")
        gate = cls(
            wait_for=wait_for,
            fail_on_warnings=_warning_codes(fail_on_warnings),
            fail_on_unhealthy=fail_on_unhealthy,
            min_rows_processed=_count("min_rows_processed", min_rows_processed),
            max_rows_skipped_by_error=_count("max_rows_skipped_by_error", max_rows_skipped_by_error),
            max_rows_with_warning=_count("max_rows_with_warning", max_rows_with_warning),
            max_error_ratio=_ratio("max_error_ratio", max_error_ratio),
        )
        if gate.thresholds and wait_for != "completed":
            raise PolarisUsageError(
                "Thresholds on row counters need wait_for='completed': the counters of a running job still change"
            )
        return gate

    @property
    def unknown_warnings(self) -> list[str]:
        """Codes in ``fail_on_warnings`` that the vendor does not document: new codes, or mistyped ones."""
        return [] if self.fail_on_warnings is True else sorted(self.fail_on_warnings - WARNING_CODES)

    @property
    def thresholds(self) -> list[str]:
        """The names of the thresholds that are set. They need the counters of a completed job."""
        names = ("min_rows_processed", "max_rows_skipped_by_error", "max_rows_with_warning", "max_error_ratio")
        return [name for name in names if getattr(self, name) is not None]


def _warning_codes(value: Any) -> Literal[True] | frozenset[str]:
    if value is True:
        return True
    if value is False or value is None:
        return frozenset()
    codes = (value,) if isinstance(value, str) else value
    if not isinstance(codes, Collection) or not all(isinstance(code, str) and _CODE.fullmatch(code) for code in codes):
        raise PolarisUsageError(f"fail_on_warnings must be True, or a tuple of warning codes, not {value!r}")
    return frozenset(codes)


def _number(name: str, value: Any, wanted: str) -> float | None:
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if value in ("", "None"):
        raise PolarisUsageError(f"{rendered_to_nothing(name, value)} It must be {wanted}")
    if not (math.isfinite(number) and number >= 0):
        # A threshold that renders to an empty text must not silently open the gate.
        raise PolarisUsageError(f"{name} must be {wanted}; it is {clip(repr(value), 100)}")
    return number


def _count(name: str, value: Any) -> int | None:
    number = _number(name, value, wanted := "a whole number of rows, 0 or more")
    if number is not None and not number.is_integer():
        raise PolarisUsageError(f"{name} must be {wanted}; it is {value!r}")
    return None if number is None else int(number)


def check_threshold(name: str, value: Any) -> None:
    """Raise PolarisUsageError for a threshold out of its range.

    :param name: an option of a gate: ``max_error_ratio`` is a ratio, all others count rows.
    """
    (_ratio if name == "max_error_ratio" else _count)(name, value)


def _ratio(name: str, value: Any) -> float | None:
    number = _number(name, value, wanted := "a ratio between 0 and 1")
    if number is not None and number > 1:
        raise PolarisUsageError(f"{name} must be {wanted}; it is {value!r}")
    return number
