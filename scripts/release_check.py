"""make release-check: build the files of a release, and run example DAGs of the wheel on each tested Airflow.

    python -m scripts.release_check 2.11=2.11.2 3.3=3.3.2

Each Airflow gets an environment with the wheel and its dependencies only. The local Polaris runs outside of it.
TAG=v1.2.3 also compares the version with the tag, and the changelog with the version.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from airflow_provider_polaris import __version__
from airflow_provider_polaris.api.client import PolarisClient
from airflow_provider_polaris.api.connection import PolarisConnection
from airflow_provider_polaris.local import LocalPolaris

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
UV = ROOT / ".venv" / "tools" / "bin" / "uv"
#: DAGs that need no uploaded file: a mapped sensor, and a sensor with a teardown.
EXAMPLES = ("polaris_mapped", "polaris_cancel")
#: The rows that they load into each table.
LOADED = {"visits": 30, "cities": 1000}
#: Run in the environment of the wheel. Prints the folder of the example DAGs.
FIND_EXAMPLES = """
from pathlib import Path
import airflow_provider_polaris
print(Path(airflow_provider_polaris.__file__).parent / "example_dags")
"""
#: Run in the environment of the wheel, on Airflow 3.3 and later. Fails if Airflow does not find the example DAGs.
FIND_BUNDLE = """
from airflow.dag_processing.bundles.manager import DagBundlesManager
names = list(DagBundlesManager().get_all_bundle_names())
assert "airflow-provider-polaris-example-dags" in names, names
"""


class ReleaseError(Exception):
    """A file of the release is not as it should be."""


def run(*command: str | Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    """Run a command and return its standard output. If it fails, print all of its output."""
    done = subprocess.run([*map(str, command)], env=env, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(f"{' '.join(map(str, command))} failed:\n{done.stdout[-5000:]}\n{done.stderr[-5000:]}")
    return done.stdout


def check_tag(tag: str, version: str, changelog: str) -> None:
    """Compare the tag, the version of the package, and the changelog, which needs an entry with a date."""
    if tag != f"v{version}":
        raise ReleaseError(f"The tag is {tag}, and the version of the package is {version}")
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", changelog, re.MULTILINE):
        raise ReleaseError(f"CHANGELOG.md needs the heading: ## {version} (YYYY-MM-DD)")


def build() -> Path:
    """Build the sdist, and the wheel from it. Check both, and return the wheel."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(UV, "build", "--quiet")
    files = sorted(DIST.glob("airflow_provider_polaris-*"))
    bin_folder = Path(sys.executable).parent
    run(bin_folder / "twine", "check", "--strict", *files)
    (wheel,) = DIST.glob("*.whl")
    run(bin_folder / "check-wheel-contents", wheel)
    return wheel


def install(wheel: Path, series: str, version: str) -> Path:
    """Install only the wheel and its dependencies into a new environment. Return the folder of its programs."""
    environment = ROOT / ".venv" / f"release-{series}"
    python = run("sh", "scripts/python.sh", series).strip()
    run(UV, "venv", "--quiet", "--clear", "--python", python, environment)
    into = ("--python", environment / "bin" / "python")
    pins = ROOT / "constraints" / f"airflow-{series}.txt"
    run(UV, "pip", "install", "--quiet", *into, "--constraints", pins, f"apache-airflow=={version}", wheel)
    run(UV, "pip", "check", "--quiet", *into)
    return environment / "bin"


def run_examples(programs: Path, series: str) -> None:
    """Run the example DAGs of the installed wheel with Airflow's own command, against a local Polaris."""
    with tempfile.TemporaryDirectory() as folder, LocalPolaris() as polaris:
        home = Path(folder)
        env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PYTHONPATH"))}
        env |= {
            "NO_PROXY": "127.0.0.1,localhost",
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_POLARIS_DEFAULT": polaris.connection_json,
        }
        examples = Path(run(programs / "python", "-c", FIND_EXAMPLES, env=env, cwd=home).strip())
        if programs.parent not in examples.parents:
            raise ReleaseError(f"The package is not imported from the installed wheel: {examples}")
        env["AIRFLOW__CORE__DAGS_FOLDER"] = str(examples)
        run(programs / "airflow", "db", "migrate", env=env, cwd=home)
        providers = json.loads(run(programs / "airflow", "providers", "list", "-o", "json", env=env, cwd=home))
        found = [row["version"] for row in providers if row["package_name"] == "airflow-provider-polaris"]
        if found != [__version__]:
            raise ReleaseError(f"airflow providers list has these versions, and should have {__version__}: {found}")
        if series not in {"2.11", "3.0", "3.1", "3.2"}:
            env_with_examples = env | {"AIRFLOW__CORE__LOAD_EXAMPLES": "True"}
            run(programs / "python", "-c", FIND_BUNDLE, env=env_with_examples, cwd=home)
        for dag_id in EXAMPLES:
            run(programs / "airflow", "dags", "test", dag_id, env=env, cwd=home)
        if (loaded := rows_by_table(polaris)) != LOADED:
            raise ReleaseError(f"The example DAGs loaded {loaded}, and should load {LOADED}")


def rows_by_table(polaris: LocalPolaris) -> dict[str, int]:
    """Return the rows that completed jobs have loaded into each table."""
    connection = PolarisConnection.from_values(host=polaris.url, project_id=polaris.project_id, api_key=polaris.api_key)
    client = PolarisClient(connection)
    rows: Counter[str] = Counter()
    for job in client.list_jobs(execution_status=["completed"]):
        rows[str(job.table)] += client.get_job_metrics(job.id).rows_processed or 0
    return dict(rows)


def main(*pairs: str) -> None:
    """Check the release on each ``SERIES=VERSION`` of Airflow."""
    started = time.monotonic()
    if tag := os.environ.get("TAG"):
        check_tag(tag, __version__, (ROOT / "CHANGELOG.md").read_text())
    wheel = build()
    print(f"{wheel.name} and its sdist are complete")
    for pair in pairs:
        series, _, version = pair.partition("=")
        run_examples(install(wheel, series, version), series)
        print(f"The example DAGs of the wheel succeed on Airflow {version}")
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ReleaseError as error:
        sys.exit(str(error))
