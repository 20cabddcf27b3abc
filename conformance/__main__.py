"""Run all comparisons with the document, and print how many there were: ``python -m conformance FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

from airflow_provider_polaris.local import LocalPolaris
from conformance.answers import Answers
from conformance.client import Client
from conformance.deviations import TAKEN
from conformance.document import Document
from conformance.jobs import Jobs, prepare
from conformance.random_jobs import LEAST_JOBS, RandomJobs
from conformance.refusals import Refusals
from conformance.report import Report


def main(path: Path) -> int:
    """Compare the local Polaris with the document in a file; return the exit status."""
    document = Document.load(path)
    strict, lenient = Answers(document), Answers(document, is_strict=False)
    report = Report()
    checked = 0
    # A random spec has unknown fields, and the job echoes them.
    for part, answers in ((_jobs, strict), (_refusals, strict), (_random_jobs, lenient)):
        with LocalPolaris() as polaris:
            client = Client(polaris, answers)
            prepare(polaris, client)
            part(report, polaris, client, document)
            client.close()
        checked += client.checked
        report.fail("Answers that violate the document", (f"{fault} ({n})" for fault, n in client.faults.most_common()))
    report.row("answers checked", f"{checked:,}")
    return report.end()


def _jobs(report: Report, polaris: LocalPolaris, client: Client, document: Document) -> None:
    jobs = Jobs(polaris, client, document)
    jobs.run()
    report.row("variations of a job created", f"{jobs.created:,} of {jobs.created + len(jobs.refused):,}")
    report.fail("Valid specs that were refused", jobs.refused)


def _refusals(report: Report, polaris: LocalPolaris, client: Client, document: Document) -> None:
    run = Refusals(polaris, client, document)
    run.run()
    taken = sum(len(specs) for specs in run.taken.values())
    report.row(
        "violations of requests refused", f"{run.sent - taken:,} of {run.sent:,} ({len(run.distinct):,} different)"
    )
    report.row("violations taken", f"{len(run.taken)} different, {len(TAKEN)} of them accepted in deviations.py")
    report.fail("Valid specs that were refused", run.unusable)
    report.fail(
        "Violations that were taken",
        (
            f"{key}   in {len(run.taken[key])} specs: {run.taken[key][0]}"
            for key in sorted(run.taken.keys() - TAKEN.keys())
        ),
    )
    report.fail("Accepted deviations that the local Polaris refuses", sorted(TAKEN.keys() - run.taken.keys()))
    report.fail(
        "Violations that were refused because of another field",
        (f"{key}   {specs[0]}" for key, specs in sorted(run.misnamed.items())),
    )


def _random_jobs(report: Report, polaris: LocalPolaris, client: Client, document: Document) -> None:
    run = RandomJobs(polaris, client, document)
    run.run()
    created = sum(run.created.values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(run.created.items()))
    report.row("jobs from random specs", f"{created} ({kinds}); at least {LEAST_JOBS}")
    report.row("random queries", str(run.queries))
    report.fail("Random requests that were refused", run.refused)
    if created < LEAST_JOBS:
        report.fail("Too few jobs from random specs", [f"{created}, and {LEAST_JOBS} are needed"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
