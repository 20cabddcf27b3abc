"""The base class of the sensors: the timeout of a sensor, its modes, and its growing interval.

This module is cheap to import in a DAG file: it loads no HTTP library and no trigger.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris._compat import AirflowSensorTimeout, BaseSensorOperator
from airflow_provider_polaris.waiting.deferral import called_by_airflow, check_seconds
from airflow_provider_polaris.waiting.task_base import GatedTask
from airflow_provider_polaris.waiting.wait_metrics import sends_metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.triggers.base import BaseTrigger

    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.waiting.crossing import TriggerArgs


class GatedSensor(GatedTask, BaseSensorOperator):
    """The base of every sensor that succeeds only if a job passes its gate.

    :param poke_interval: the longest time between two polls, in seconds. The default is ``[polaris] poll_interval``. If
        that is not set, the time grows with the time waited: a twentieth of it, from 5 s to 60 s.
    :param timeout: the longest wait, in seconds. A retry waits for this long again.
    """

    ui_color = "#d6ecfa"
    interval_option = "poke_interval"

    def __init__(
        self,
        *,
        poke_interval: timedelta | float | None = None,
        timeout: timedelta | float = 24 * 3600,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=self.set_interval(poke_interval), timeout=timeout, **kwargs)
        self.grows = self.grows and not self.exponential_backoff
        self._began = 0.0

    @called_by_airflow
    @sends_metrics
    def execute(self, context: Context) -> Any:
        """Poke until the gate opens, or this process's part of the wait ends."""
        return super().execute(context)

    def _get_next_poke_interval(self, started_at: Any, run_duration: Callable[[], float], poke_count: int) -> float:
        """Return the pause before the next poke. Airflow calls this in poke and in reschedule mode."""
        if not self.grows:
            return float(super()._get_next_poke_interval(started_at, run_duration, poke_count))
        from airflow_provider_polaris.polling.polled_wait import growing_interval

        return growing_interval(run_duration(), self.poke_interval)

    def timeout_error(self, message: str) -> AirflowSensorTimeout:
        """Return Airflow's error for the timeout of a sensor."""
        self.log_before_skip(message)
        return AirflowSensorTimeout(message)

    def trigger_for(self, args: TriggerArgs) -> BaseTrigger:
        """Return the trigger that waits as the arguments say."""
        from airflow_provider_polaris.triggers.polaris import trigger_for

        return trigger_for(args)

    def backoff(self) -> dict[str, Any]:
        """Return the trigger's arguments for a growing interval."""
        return {
            "exponential_backoff": bool(self.exponential_backoff),
            "max_wait": self.max_wait.total_seconds() if self.max_wait else None,
        }

    def check_limits(self) -> None:
        """Reject an interval and a timeout that are no usable number of seconds."""
        check_seconds(self, "poke_interval", "timeout")

    @property
    def sees_whole_wait(self) -> bool:  # type: ignore[override]
        """Whether one process sees the whole wait. A rescheduled poke is only a part of it."""
        return self.deferrable or not self.reschedule

    def log_before_skip(self, message: str) -> None:
        """Log the message if Airflow turns the error into a skip, which drops the message."""
        if self.soft_fail or self.never_fail:
            self.log.warning("%s", message)
