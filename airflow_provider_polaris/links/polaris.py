"""PolarisConsoleLink: from a task in Airflow's UI to its job, or to the organisation's console."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris._compat import AIRFLOW_3, BaseOperatorLink

if TYPE_CHECKING:
    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.hooks.polaris import PolarisHook

#: Where Airflow 2.11's web server finds the address. 3.x keeps one of its own for each link.
XCOM_KEY = "polaris_job_url"


class PolarisConsoleLink(BaseOperatorLink):
    """A button on the task: the job where the connection's ``job_url_template`` leads, or else the console."""

    name = "Imply Polaris"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, an empty text if it is not known. Never raises: the UI would lose the whole page.

        Airflow 3 asks on the worker, where the task knows; 2.11 asks in the web server, which has XCom only.
        """
        try:
            known = getattr(operator, "job_url", None)
            return str(known or "") if AIRFLOW_3 else str(known or _pushed(ti_key) or "")
        except Exception:  # noqa: BLE001
            return ""


def _pushed(ti_key: Any) -> Any:
    from airflow.models.xcom import XCom

    return XCom.get_value(key=XCOM_KEY, ti_key=ti_key)


class LinksToJob:
    """What an operator needs to have the link: mixed in before Airflow's class."""

    operator_extra_links: Collection[BaseOperatorLink] = (PolarisConsoleLink(),)
    #: Where a person sees the job; ``None`` until the task has looked its connection up, or if that does not tell.
    job_url: str | None = None

    def note_job_url(self, hook: PolarisHook, job_id: str, context: Context | None = None) -> None:
        """Find out where the job is seen.

        :param context: of a task that starts, and not of one that resumes: no key is pushed twice.
        """
        try:
            self.job_url = hook.job_url(job_id)
        except Exception:  # noqa: BLE001
            return  # a connection that cannot be used is said where it is used
        if self.job_url and context and not AIRFLOW_3 and getattr(self, "do_xcom_push", True):
            context["ti"].xcom_push(key=XCOM_KEY, value=self.job_url)
