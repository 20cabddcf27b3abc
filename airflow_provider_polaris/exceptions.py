"""Every exception that a user of this provider can meet, in one place.

========================================  ==================================================  =================
exception                                 means                                               Airflow retries
========================================  ==================================================  =================
:class:`PolarisGateRefused`               the job is over, and its data is not good enough    no
:class:`PolarisTransientError`, base of:  a call failed, perhaps for a short time             yes
:class:`PolarisUnreachable`               no connection, no response in time, 429 or 5xx      yes
:class:`PolarisInvalidResponse`           a response does not follow the Polaris API          yes
:class:`PolarisResponseTooLarge`          the response is too large to be read                yes
:class:`PolarisUnauthorized`              401: the API key is wrong, expired or revoked       yes
:class:`PolarisForbidden`                 403: the API key lacks a permission                 yes
:class:`PolarisNotFound`                  404: there is no such job, table or project         yes
:class:`PolarisJobNotFound`               two responses report that there is no such job      yes
:class:`PolarisBadRequest`                Polaris rejects the request                         yes
:class:`PolarisConflict`                  409: there is something of this name already        yes
:class:`PolarisQueryFailed`               a query is invalid, or fails                        yes
:class:`PolarisQueryRefused`              a task's query is invalid, or somebody canceled it  no
:class:`PolarisQueryNotFound`             two responses report that there is no such query    yes
:class:`PolarisQueryTimeout`              the query was not over in time, and is canceled     yes
:class:`PolarisQueryLost`                 Polaris may be running a query without a task       no
:class:`PolarisResultTooLarge`            the result has more rows than ``max_rows``          no
:class:`PolarisFileExists`                the client finds another file of this name          yes
:class:`PolarisUploadRefused`             the task finds another file of this name            no
:class:`PolarisSourceUnreadable`          the file to upload is missing, or was changed        yes
:class:`PolarisConnectionMissing`         the Airflow connection is not defined there         yes
:class:`PolarisConnectionInvalid`         the Airflow connection is invalid                   yes
:class:`PolarisUsageError`                an argument is invalid                              yes
:class:`PolarisOptionInvalid`             an option or the job spec of a task is invalid      no
:class:`PolarisJobFailed`                 the job that the task created failed                yes
:class:`PolarisJobCanceled`               somebody canceled the job that the task created     no
:class:`PolarisJobLost`                   an earlier try may have created a job               no
:class:`PolarisJobStillRunning`           the job of the spec before is still running         no
:class:`PolarisJobTimeout`                the job was not over in time                        yes
:class:`PolarisTaskKilled`                the task was killed before it started anything      no
:class:`PolarisCancelTimeout`             the canceled job was not over in time               yes
:class:`PolarisJobAlreadyOver`            ``fail_if_finished`` is set, and the job was over   no
``AirflowSensorTimeout``                  the sensor's ``timeout`` passed                     no
``AirflowTaskTimeout``                    the task's ``execution_timeout`` passed             yes
========================================  ==================================================  =================

All but Airflow's two are kinds of :class:`PolarisError`. Errors of calls are kinds of :class:`PolarisApiError`.
"""

from __future__ import annotations

from airflow_provider_polaris._compat import AirflowException, AirflowFailException
from airflow_provider_polaris.api.errors import (
    PolarisApiError,
    PolarisBadRequest,
    PolarisConflict,
    PolarisConnectionInvalid,
    PolarisConnectionMissing,
    PolarisError,
    PolarisFileExists,
    PolarisForbidden,
    PolarisInvalidResponse,
    PolarisJobNotFound,
    PolarisNotFound,
    PolarisQueryFailed,
    PolarisQueryNotFound,
    PolarisResponseTooLarge,
    PolarisSourceUnreadable,
    PolarisTransientError,
    PolarisUnauthorized,
    PolarisUnreachable,
    PolarisUsageError,
)

__all__ = [
    "PolarisApiError",
    "PolarisBadRequest",
    "PolarisCancelTimeout",
    "PolarisConflict",
    "PolarisConnectionInvalid",
    "PolarisConnectionMissing",
    "PolarisError",
    "PolarisFileExists",
    "PolarisForbidden",
    "PolarisGateRefused",
    "PolarisInvalidResponse",
    "PolarisJobAlreadyOver",
    "PolarisJobCanceled",
    "PolarisJobFailed",
    "PolarisJobLost",
    "PolarisJobNotFound",
    "PolarisJobStillRunning",
    "PolarisJobTimeout",
    "PolarisNotFound",
    "PolarisOptionInvalid",
    "PolarisQueryFailed",
    "PolarisQueryLost",
    "PolarisQueryNotFound",
    "PolarisQueryRefused",
    "PolarisQueryTimeout",
    "PolarisResponseTooLarge",
    "PolarisResultTooLarge",
    "PolarisSourceUnreadable",
    "PolarisTaskKilled",
    "PolarisTransientError",
    "PolarisUnauthorized",
    "PolarisUnreachable",
    "PolarisUploadRefused",
    "PolarisUsageError",
]


class PolarisOptionInvalid(PolarisUsageError, AirflowFailException):
    """An option or the job spec of a task is invalid. A retry would fail in the same way."""


class PolarisGateRefused(PolarisError, AirflowFailException):
    """The gate refuses the job: its data is not good enough. A retry would not change the job."""


class PolarisJobFailed(PolarisError, AirflowException):
    """The job that this task created failed, and loaded nothing. A new job may succeed."""


class PolarisJobCanceled(PolarisError, AirflowFailException):
    """Somebody canceled the job that this task created. A retry would undo that."""


class PolarisJobLost(PolarisError, AirflowFailException):
    """An earlier try may have created a job that cannot be found. A second job might load the data twice."""


class PolarisJobStillRunning(PolarisError, AirflowFailException):
    """The task was cleared to load another spec, and the job of the spec before is still running."""


class PolarisJobTimeout(PolarisError, AirflowException):
    """The job that this task created was not over in time, or its table was not available in time."""


class PolarisTaskKilled(PolarisError, AirflowFailException):
    """A user killed the task before it started a job or a query, or another try has started. This try starts none."""


class PolarisCancelTimeout(PolarisError, AirflowException):
    """Polaris accepted the cancellation, and the job was not over in time. The next try may find it over."""


class PolarisJobAlreadyOver(PolarisError, AirflowFailException):
    """The job was over before it could be canceled, and ``fail_if_finished`` is set."""


class PolarisUploadRefused(PolarisFileExists, AirflowFailException):
    """The project has another file of the name under which a task uploads one. A retry would find it again."""


class PolarisQueryRefused(PolarisQueryFailed, AirflowFailException):
    """The query of a task is invalid, or somebody canceled it. A retry would fail in the same way, or undo that."""


class PolarisQueryTimeout(PolarisError, AirflowException):
    """The query of a task was not over in time. The task has asked Polaris to cancel it."""


class PolarisQueryLost(PolarisError, AirflowFailException):
    """The response to a query was lost, so that Polaris may run it and bill it. A clear of the task runs it again."""


class PolarisResultTooLarge(PolarisError, AirflowFailException):
    """The result of a query has more rows than the task puts into XCom. A retry would find as many."""
