"""``python -m airflow_provider_polaris.local``: run a local Polaris until interrupted."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_polaris.local.engine.data.database import MEMORY
from airflow_provider_polaris.local.engine.data.rows import EDITIONS
from airflow_provider_polaris.local.engine.project.journal import FolderInUse
from airflow_provider_polaris.local.http.app import PERMISSIONS
from airflow_provider_polaris.local.server import LocalPolaris


def main() -> None:
    """Serve until a signal arrives, and print how to connect."""
    options = _options()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with (
        _or_exit(options),
        LocalPolaris(
            host=options.host,
            port=options.port,
            project_id=options.project_id,
            api_key=options.api_key,
            permissions=PERMISSIONS.difference(options.without),
            rows_per_second=options.rows_per_second,
            available_after=options.available_after,
            counters=options.counters,
            memory=options.memory,
            s3_root=options.s3_root,
            data=options.data,
        ) as polaris,
    ):
        print(f"URL         {polaris.url}")
        print(f"API key     {polaris.api_key}")
        print(f"Project id  {polaris.project_id}")
        print(f"Page        {polaris.page_url}")
        print()
        print(f"export AIRFLOW_CONN_POLARIS_DEFAULT='{polaris.connection_json}'", flush=True)
        if not _is_loopback(options.host):
            warning = f"Listening on {options.host}: anyone who can reach this port and has the key can use it."
            print(f"\n{warning}", flush=True)
        stop.wait()


@contextmanager
def _or_exit(options: argparse.Namespace) -> Iterator[None]:
    try:
        yield
    except FolderInUse as error:
        raise SystemExit(str(error)) from None
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise SystemExit(f"Port {options.port} of {options.host} is taken. --port 0 takes a free port") from None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_polaris.local", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8181, help="port to listen on, 0 for a free one (default: %(default)s)"
    )
    parser.add_argument("--project-id", help="default: a new one")
    parser.add_argument("--api-key", help="default: a new one")
    parser.add_argument(
        "--rows-per-second", type=float, help="the most rows that a job reads per second (default: no limit)"
    )
    parser.add_argument(
        "--available-after",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="seconds from a job's end until its rows can be queried (default: %(default)s)",
    )
    parser.add_argument(
        "--counters",
        choices=EDITIONS,
        default="newer",
        help="the edition of the documentation whose counters batch jobs report (default: %(default)s)",
    )
    parser.add_argument(
        "--memory",
        default=MEMORY,
        help="the most memory that rows and queries take, such as 512MB or 2GB (default: %(default)s)",
    )
    parser.add_argument(
        "--s3-root",
        metavar="DIR",
        help="a folder with one folder for each bucket, from which jobs of s3 and azure read (default: none)",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="a folder that keeps jobs, files and tables, the project's id and its key over a restart (default: none)",
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=sorted(PERMISSIONS),
        metavar="PERMISSION",
        help=f"a permission that the key lacks; the option can be repeated: {', '.join(sorted(PERMISSIONS))}",
    )
    return parser.parse_args()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    main()
