"""make demo: a real Airflow runs a whole pipeline with real rows, repeats it, and refuses a load that lost rows.

The demo starts a local Polaris, and migrates a temporary Airflow in .demo/. Then it runs the DAG of
example_dags/polaris_backfill.py three times for one day of example_dags/data. It stops what it starts, and writes only
to .demo/.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.box import SQUARE
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
LOG = DEMO / "airflow.log"
DATA = ROOT / "example_dags" / "data"
TABLE = "orders_by_day"
#: Slow enough that the task has to wait.
ROWS_PER_SECOND = 4000
QUERY = """\
SELECT country, COUNT(*) AS orders, SUM(items) AS items, ROUND(SUM(amount)) AS amount
FROM orders_by_day GROUP BY country ORDER BY orders DESC, country"""
PASSED = {"upload": "success", "load": "success", "check": "success", "clean_up": "success"}
REFUSED = PASSED | {"load": "failed", "check": "upstream_failed"}
EXPECTED = "The day was loaded, loaded again without a change, and refused, as expected."
#: Airflow itself needs rich. Without a terminal, it prints plain text.
console = Console(highlight=False)


def environment() -> dict[str, str]:
    """Return the environment of the temporary Airflow."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    return env | {
        "NO_PROXY": "127.0.0.1,localhost",
        "AIRFLOW_HOME": str(DEMO / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "example_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "TMPDIR": str(DEMO / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def say(text: str = "", indent: int = 0) -> None:
    """Print text, wrapped between words, as wide as the terminal."""
    for line in text.splitlines() or [""]:
        width = console.width - indent
        parts = textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]
        console.print(textwrap.indent("\n".join(parts), " " * indent), markup=False, soft_wrap=True)


def watch(process: subprocess.Popen[bytes], line: Callable[[], str]) -> None:
    """Show the progress until the process ends. A file gets only the last state."""
    started = time.monotonic()
    text = ""
    with console.status("") as status:
        while process.poll() is None:
            text = f"{time.monotonic() - started:5.1f} s  {line()}"
            status.update(Text(text))
            time.sleep(0.2)
    say(text, indent=3)


def run(arguments: list[str], env: dict[str, str], line: Callable[[], str]) -> None:
    """Run a command with its output in the log, and show its progress."""
    with LOG.open("ab") as log, subprocess.Popen(arguments, env=env, stdout=log, stderr=log, cwd=DEMO) as process:
        try:
            watch(process, line)
        finally:
            process.kill()
    if process.returncode:
        say(f"\n{' '.join(arguments[1:4])} failed. The end of {LOG.relative_to(ROOT)}:\n")
        say("\n".join(LOG.read_text(errors="replace").splitlines()[-25:]))
        sys.exit(1)


@cache
def hook() -> Any:
    """Return the hook of the demo itself."""
    from airflow_provider_polaris.hooks.polaris import PolarisHook

    return PolarisHook()


def progress_of(polaris: Any) -> str:
    """Return the progress of the load, as Polaris reports it."""
    job = hook().latest_job(TABLE)
    if job is None or job.id in SEEN:
        return "Airflow starts …"
    if job.is_over:
        return f"job {job.id[:8]} is {job.execution_status}; Airflow continues …"
    done = int(24 * hook().get_job_progress(job.id))
    polls = sum(request.method == "GET" and request.path.endswith(job.id) for request in polaris.requests)
    return f"job {job.id[:8]} is {job.execution_status} [{'#' * done:24}] {polls} polls"


SEEN: set[str] = set()


def pipeline_run(polaris: Any, env: dict[str, str], **params: Any) -> dict[str, Any]:
    """Run the DAG through Airflow. Return the result from Airflow's database."""
    result = DEMO / "result.json"
    conf = json.dumps({"folder": str(DATA), **params})
    program = [sys.executable, str(ROOT / "scripts" / "run_dag.py"), conf, str(result)]
    polaris.requests.clear()
    run(program, env, lambda: progress_of(polaris))
    seen: dict[str, Any] = json.loads(result.read_text())
    SEEN.add(seen["job_id"])
    return seen


def show_table(rows: list[tuple[str, str]]) -> None:
    """Print a table with two columns."""
    table = Table(show_header=False, box=SQUARE)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(Padding(table, (0, 0, 0, 3), expand=False))


def show(polaris: Any, seen: dict[str, Any]) -> None:
    """Print the result of a run."""
    import pendulum

    polls = sum(request.method == "GET" and request.path.endswith(seen["job_id"]) for request in polaris.requests)
    job = hook().get_job(seen["job_id"])
    waited = (pendulum.parse(seen["ended"]) - pendulum.parse(job.created_at or "")).total_seconds()
    counters = {name: value for name, value in (seen["metrics"] or {}).items() if value is not None}
    lines = [f"{name} {value:,}" for name, value in counters.items()]
    show_table(
        [
            ("job", job.id),
            ("status, health", f"{job.execution_status}, {job.health.status}"),
            *(("counters" if not number else "", line) for number, line in enumerate(lines)),
            ("the task waited", f"{waited:.1f} s, deferred to the triggerer; {polls} polls"),
            *((f"task {name}", seen["tasks"][name]) for name in PASSED),
        ]
    )


def rows_by_country() -> list[list[Any]]:
    """Return the result of the query."""
    return [list(row) for row in hook().query(QUERY).rows]


def show_rows(rows: list[list[Any]]) -> None:
    """Print the query's result."""
    table = Table(box=SQUARE)
    for name in ("country", "orders", "items", "amount"):
        table.add_column(name, justify="left" if name == "country" else "right")
    for country, *numbers in rows:
        table.add_row(Text(str(country)), *(f"{number:,.0f}" for number in numbers))
    console.print(Padding(table, (0, 0, 0, 3), expand=False))


def main() -> None:
    """Run the demo."""
    subprocess.run(["rm", "-rf", str(DEMO)], check=True)
    (DEMO / "tmp").mkdir(parents=True)
    env = environment()
    os.environ.update(env, AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR")  # for this process, which prints no log
    from airflow_provider_polaris.local import LocalPolaris

    quick = "--quick" in sys.argv[1:]
    with LocalPolaris(rows_per_second=None if quick else ROWS_PER_SECOND) as polaris:
        os.environ["AIRFLOW_CONN_POLARIS_DEFAULT"] = env["AIRFLOW_CONN_POLARIS_DEFAULT"] = polaris.connection_json
        say(f"1. A local Polaris listens on {polaris.url}")
        say(f"2. A temporary Airflow {version('apache-airflow')} on SQLite in .demo/: some 10 s for its database")
        for command in (["db", "migrate"], ["dags", "reserialize"]):
            run([sys.executable, "-m", "airflow", *command], env, partial("airflow {} {}".format, *command))
        say("3. Airflow uploads a day of orders, replaces the day in the table, checks it")
        say("with SQL, and deletes the file. Ten lost rows are allowed", indent=3)
        good = pipeline_run(polaris, env)
        show(polaris, good)
        rows = rows_by_country()
        say(f"PolarisHook().query returns, from the table {TABLE}:", indent=3)
        show_rows(rows)
        say()
        say("4. The same day again: its rows are replaced, not doubled")
        again = pipeline_run(polaris, env)
        is_same = rows_by_country() == rows and again["job_id"] != good["job_id"]
        count = sum(row[1] for row in rows_by_country())
        how = "as before" if is_same else "which differ from those before"
        say(f"The table has {count:,} rows, {how}.", indent=3)
        say()
        say("5. The same day again, with max_rows_skipped_by_error=0")
        bad = pipeline_run(polaris, env, max_rows_skipped_by_error=0)
        show(polaris, bad)
        say("The gate refused the load, so the check did not run. The task's log:", indent=3)
        say(refusal(), indent=3)
    ok = good["tasks"] == again["tasks"] == PASSED and is_same and bad["tasks"] == REFUSED
    say()
    say(EXPECTED if ok else "This is not the expected result.")
    say("Airflow's own log: .demo/airflow.log")
    sys.exit(not ok)


def refusal() -> str:
    """Return the message of the refusal from Airflow's log."""
    log = re.sub(r"\x1b\[[0-9;]*m", "", LOG.read_text(errors="replace"))  # Airflow 3.0 writes colors
    match = re.search(r"PolarisGateRefused: (Refused: .*\n.*)", log)  # the verdict, and the counters
    return match[1] if match else ""


if __name__ == "__main__":
    main()
