"""The objects of OpenLineage for a task's lineage. Loaded only where Airflow's OpenLineage provider is installed.

``import_module`` and no import statement: a type checker would need packages that Airflow does not require.
"""

from __future__ import annotations

import inspect
import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_polaris.assets.lineage import Check, Input, Output, TaskLineage

log = logging.getLogger(__name__)


def operator_lineage(known_lineage: Callable[[], TaskLineage], task: Any, task_instance: Any) -> Any:
    """Return the ``OperatorLineage`` of a task, with the user's own inlets and outlets. Never raises.

    Without a dataset of the task, the result has none, and OpenLineage itself adds the inlets and outlets.

    The result is ``None`` if Airflow's OpenLineage provider is not installed.

    :param known_lineage: returns what the task has read and written.
    """
    try:
        extractors = import_module("airflow.providers.openlineage.extractors.base")
    except ImportError:
        return None
    try:
        return _of_task(extractors.OperatorLineage, known_lineage(), task, task_instance)
    except Exception as error:  # noqa: BLE001 - lineage fails no task
        log.warning("The lineage of the task is not complete: %s: %s", type(error).__name__, error)
        return extractors.OperatorLineage()


def _of_task(kind: Any, known: TaskLineage, task: Any, task_instance: Any) -> Any:
    inputs, outputs = [_input(one) for one in known.inputs], [_output(one) for one in known.outputs]
    if inputs or outputs:
        inputs = _merged(inputs, getattr(task, "inlets", ()))
        outputs = _merged(outputs, _outlets(task, task_instance))
    return kind(inputs=inputs, outputs=outputs, run_facets=_run_facets(known))


def _run_facets(lineage: TaskLineage) -> dict[str, Any]:
    if lineage.external_id is None:
        return {}
    facet = import_module("openlineage.client.facet_v2").external_query_run.ExternalQueryRunFacet
    return {"externalQuery": facet(externalQueryId=lineage.external_id, source="polaris")}


def _input(given: Input) -> Any:
    kind = import_module("openlineage.client.event_v2").InputDataset
    return kind(namespace=given.id.namespace, name=given.id.name, facets=_quality(given.checks))


def _output(given: Output) -> Any:
    facets, statistics = import_module("openlineage.client.facet_v2"), {}
    if given.row_count is not None or given.size_bytes is not None:
        counts = facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet
        statistics["outputStatistics"] = counts(rowCount=given.row_count, size=given.size_bytes)
    kind = import_module("openlineage.client.event_v2").OutputDataset
    return kind(
        namespace=given.id.namespace,
        name=given.id.name,
        facets=_quality(given.checks),
        outputFacets=statistics,
    )


def _quality(checks: tuple[Check, ...]) -> dict[str, Any]:
    """Return the facet of the checks, where Airflow's own SQL checks have it, too."""
    if not checks:
        return {}
    quality = import_module("openlineage.client.facet_v2").data_quality_assertions_dataset
    assertions = [_assertion(quality.Assertion, check) for check in checks]
    return {"dataQualityAssertions": quality.DataQualityAssertionsDatasetFacet(assertions=assertions)}


def _assertion(kind: Any, check: Check) -> Any:
    details = {"severity": "error", "expected": check.expected, "actual": check.actual}
    known = inspect.signature(kind).parameters  # clients before 1.47 have no such details
    given = {name: value for name, value in details.items() if name in known}
    return kind(assertion=check.name, success=check.passed, column=check.column, **given)


def _outlets(task: Any, task_instance: Any) -> list[Any]:
    """Return the user's outlets, and those that the task has added while it ran."""
    outlets = list(getattr(task, "outlets", ()))
    utils = import_module("airflow.providers.openlineage.utils.utils")
    added = getattr(utils, "get_runtime_outlet_assets", None)  # the versions of 2025 have no such function
    return [*outlets, *(asset for asset, _ in added(task_instance))] if added else outlets


def _merged(known: list[Any], given: Any) -> list[Any]:
    """Return the datasets of the task, then those of the user that are not among them."""
    manager = import_module("airflow.providers.openlineage.extractors.manager").ExtractorManager
    found = {(one.namespace, one.name): one for one in known}
    for asset in given:
        try:
            dataset = manager.convert_to_ol_dataset(asset)
        except Exception as error:  # noqa: BLE001 - one asset that cannot be named leaves the other datasets
            log.warning("OpenLineage cannot name %s: %s: %s", asset, type(error).__name__, error)
            continue
        if dataset is not None:
            found.setdefault((dataset.namespace, dataset.name), dataset)
    return list(found.values())
