"""PolarisConsoleLink: the button on a task in Airflow's UI that opens the task's job."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from airflow_provider_polaris._compat import AIRFLOW_3, BaseOperatorLink

if TYPE_CHECKING:
    from airflow_provider_polaris._compat import Context
    from airflow_provider_polaris.api.client import PolarisClient

__all__ = ["PolarisConsoleLink"]

#: The XCom key of the address, for Airflow 2.11's web server. Airflow 3 has its own key for each link.
XCOM_KEY = "polaris_job_url"


class PolarisConsoleLink(BaseOperatorLink):
    """A button on the task. It opens the job's page by ``job_url_template``, or else the organisation's console."""

    name = "Open in Polaris"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, or an empty text if it is unknown. Never raise: an error would break the whole page.

        Airflow 3 calls this on the worker, on the task's own operator. Airflow 2.11 calls this in the web server, which
        reads the address from XCom.
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
    """Mixin that adds the link to an operator. In the list of bases, it comes before Airflow's class."""

    operator_extra_links: Collection[BaseOperatorLink] = (PolarisConsoleLink(),)
    #: The web page of the job. ``None`` until the connection is looked up, or if the connection names no page.
    job_url: str | None = None

    def note_job_url(self, hook: PolarisClient, job_id: str, context: Context | None = None) -> None:
        """Set :attr:`job_url`, and push it to XCom on Airflow 2.11. Best effort: no error.

        :param context: of a task that starts. A task that resumes passes none, so that no key is pushed twice.
        """
        try:
            self.job_url = hook.job_url(job_id)
        except Exception:  # noqa: BLE001
            return  # the call that needs the connection raises the error
        if self.job_url and context and not AIRFLOW_3 and getattr(self, "do_xcom_push", True):
            context["ti"].xcom_push(key=XCOM_KEY, value=self.job_url)
