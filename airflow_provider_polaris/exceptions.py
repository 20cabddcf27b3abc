"""Every exception a user of this provider may meet, in one place.

========================================  ==================================================  =================
raised                                    means                                               Airflow's retries
========================================  ==================================================  =================
:class:`PolarisGateRefused`               the job is over and its data is not good            no
:class:`PolarisApiError` and its kinds    could not find out; the job may still be running    yes
:class:`PolarisConnectionMissing`         the Airflow connection is not defined there         yes
:class:`PolarisOptionInvalid`             an option or the job spec cannot work               no
:class:`PolarisConnectionInvalid`         the Airflow connection cannot work                  yes
:class:`PolarisJobFailed`                 the job that the task created failed                yes
:class:`PolarisJobCanceled`               somebody canceled the job that the task created     no
:class:`PolarisJobLost`                   an earlier spec may have made a job                 no
:class:`PolarisJobTimeout`                the job was not over in time                        yes
:class:`PolarisCancelTimeout`             the job was not over in time after a cancel         yes
:class:`PolarisJobAlreadyOver`            ``fail_if_finished``, and it had finished           no
``AirflowSensorTimeout``                  the gate's ``timeout`` passed                       no
``AirflowTaskTimeout``                    the task's ``execution_timeout`` passed             yes
========================================  ==================================================  =================
"""

from __future__ import annotations

from airflow_provider_polaris._compat import AirflowException, AirflowFailException
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisBadRequest,
    PolarisConnectionInvalid,
    PolarisConnectionMissing,
    PolarisError,
    PolarisForbidden,
    PolarisJobNotFound,
    PolarisNotFound,
    PolarisUnauthorized,
    PolarisUnreachable,
    PolarisUsageError,
)

__all__ = [
    "PolarisApiError",
    "PolarisBadRequest",
    "PolarisCancelTimeout",
    "PolarisConnectionInvalid",
    "PolarisConnectionMissing",
    "PolarisError",
    "PolarisForbidden",
    "PolarisGateRefused",
    "PolarisJobAlreadyOver",
    "PolarisJobCanceled",
    "PolarisJobFailed",
    "PolarisJobLost",
    "PolarisJobNotFound",
    "PolarisJobTimeout",
    "PolarisNotFound",
    "PolarisOptionInvalid",
    "PolarisUnauthorized",
    "PolarisUnreachable",
    "PolarisUsageError",
]


class PolarisOptionInvalid(PolarisUsageError, AirflowFailException):
    """An option or the job spec of a task cannot work: a retry would fail in the same way."""


class PolarisGateRefused(PolarisError, AirflowFailException):
    """The job is over and not good, or not good enough for the gate: waiting again cannot change it."""


class PolarisJobFailed(PolarisError, AirflowException):
    """The job that this task created failed and has loaded nothing: a new one may succeed."""


class PolarisJobCanceled(PolarisError, AirflowFailException):
    """Somebody canceled the job that this task created: a retry would undo what a person did."""


class PolarisJobLost(PolarisError, AirflowFailException):
    """A job may have been created that cannot be found: creating another might load the data twice."""


class PolarisJobTimeout(PolarisError, AirflowException):
    """The job that this task created was not over in time."""


class PolarisCancelTimeout(PolarisError, AirflowException):
    """Polaris took the cancellation, and the job was not over in time: it may be over by the next try."""


class PolarisJobAlreadyOver(PolarisError, AirflowFailException):
    """There was nothing left to cancel, and the task was asked to fail in that case."""
