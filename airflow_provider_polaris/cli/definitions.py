"""The commands and their options. Every ``airflow`` command imports this module, so it imports no command itself."""

from __future__ import annotations

from typing import Any

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand, lazy_load_command

NAME = "polaris"
DESCRIPTION = "Check a connection to Imply Polaris, and see, wait for and cancel its jobs"

CONN_ID = Arg(
    ("--conn-id",), default="polaris_default", help="a connection of type imply_polaris (default: %(default)s)"
)
PROJECT_ID = Arg(("--project-id",), help="the project, if it is not the project of the connection")
OUTPUT = Arg(
    ("-o", "--output"), choices=("table", "json"), default="table", help="the form of the result (default: %(default)s)"
)
VERBOSE = Arg(("-v", "--verbose"), action="store_true", help="show the traceback of an error, and Airflow's log")
SHARED = (CONN_ID, PROJECT_ID, OUTPUT, VERBOSE)
JOB_ID = Arg(("job_id",), metavar="ID", help="the id of the job")
POLL_INTERVAL = Arg(
    ("--poll-interval",),
    type=float,
    default=10.0,
    metavar="SECONDS",
    help="the seconds between two polls (default: %(default)g)",
)


def _timeout(seconds: float) -> Any:
    return Arg(
        ("--timeout",),
        type=float,
        default=seconds,
        metavar="SECONDS",
        help="the longest wait; the job keeps running after it (default: %(default)g)",
    )


#: The options of a gate. Their values are read, and checked, by the code that reads a sensor's options.
GATE = (
    Arg(
        ("--wait-for",),
        choices=("completed", "running"),
        default="completed",
        help="running is for a streaming job, which never completes (default: %(default)s)",
    ),
    Arg(
        ("--fail-on-warnings",),
        metavar="CODES",
        default="no_rows_found,unable_to_proceed",
        help="refuse a completed job with one of these warning codes, separated by commas; or any, or none "
        "(default: %(default)s)",
    ),
    Arg(("--fail-on-unhealthy",), action="store_true", help="refuse a running job at its first health error"),
    Arg(("--min-rows-processed",), metavar="ROWS", help="refuse a job with fewer processed rows"),
    Arg(("--max-rows-skipped-by-error",), metavar="ROWS", help="refuse a job with more skipped rows"),
    Arg(("--max-rows-with-warning",), metavar="ROWS", help="refuse a job with more rows that were ingested in part"),
    Arg(("--max-error-ratio",), metavar="RATIO", help="refuse a job with a larger share of skipped rows, 0 to 1"),
    Arg(
        ("--max-unreachable",),
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="the longest outage of Polaris that the wait tolerates (default: %(default)g)",
    ),
    Arg(
        ("--wait-until-available",),
        action="store_true",
        help="also wait until all data of the job's table can be queried",
    ),
)

#: The options of ``local`` are those of ``python -m airflow_provider_polaris.local``, which has their defaults.
LOCAL = (
    Arg(("--host",), help="the address to listen on"),
    Arg(("--port",), help="the port to listen on, 0 for a free one"),
    Arg(("--project-id",), help="the id of the project"),
    Arg(("--api-key",), help="the API key"),
    Arg(("--rows-per-second",), metavar="ROWS", help="the most rows that a job reads per second"),
    Arg(("--available-after",), metavar="SECONDS", help="seconds from a job's end until its rows can be queried"),
    Arg(("--counters",), metavar="EDITION", help="newer or older: the counters that batch jobs report"),
    Arg(("--memory",), metavar="SIZE", help="the most memory that rows and queries take, such as 512MB"),
    Arg(("--s3-root",), metavar="DIR", help="a folder with one folder for each bucket"),
    Arg(("--data",), metavar="DIR", help="a folder that keeps everything over a restart"),
    Arg(("--without",), metavar="PERMISSION", action="append", help="a permission that the key lacks, repeatable"),
)


def _command(name: str, text: str, function: str, *args: Any) -> Any:
    func = lazy_load_command(f"airflow_provider_polaris.cli.{function}")
    return ActionCommand(name=name, help=text, func=func, args=args)


def subcommands() -> tuple[Any, ...]:
    """Return the commands, each an ``ActionCommand`` of Airflow."""
    return (
        _command(
            "check",
            "Check a connection: host, key, permissions, project",
            "check_command.check",
            Arg(("--table",), metavar="NAME", help="also check that this table can be read"),
            Arg(("--sql",), action="store_true", help="also check that the key may run queries"),
            *SHARED,
        ),
        _command(
            "jobs",
            "List jobs, the newest first",
            "job_commands.jobs",
            Arg(("--table",), metavar="NAME", help="only jobs into this table"),
            Arg(("--status",), action="append", help="only jobs of this status, repeatable: running, failed, …"),
            Arg(("--type",), action="append", help="only jobs of this type, repeatable: batch, sql, streaming, …"),
            Arg(("--limit",), type=int, default=20, help="the most jobs (default: %(default)s)"),
            *SHARED,
        ),
        _command(
            "show",
            "Show a job: its state, its counters, and the end of its log",
            "job_commands.show",
            JOB_ID,
            Arg(("--log-lines",), type=int, default=5, metavar="LINES", help="lines of the log (default: %(default)s)"),
            *SHARED,
        ),
        _command(
            "wait",
            "Wait for a job, and judge its data as the sensor does",
            "wait_commands.wait",
            JOB_ID,
            *GATE,
            POLL_INTERVAL,
            _timeout(86400.0),
            *SHARED,
        ),
        _command(
            "cancel",
            "Cancel a job",
            "wait_commands.cancel",
            JOB_ID,
            Arg(("--wait",), action="store_true", help="wait until the job is over"),
            POLL_INTERVAL,
            _timeout(600.0),
            *SHARED,
        ),
        _command(
            "upload",
            "Upload files, for jobs of the source uploaded",
            "upload_command.upload",
            Arg(("source",), nargs="+", metavar="FILE", help="a path, a pattern, or an address of object storage"),
            Arg(("--name",), help="the name in Polaris; with a slash at its end, a folder for all files"),
            Arg(
                ("--if-exists",),
                choices=("same", "replace", "fail"),
                default="same",
                help="if there is a file of this name: same accepts the same bytes only (default: %(default)s)",
            ),
            *SHARED,
        ),
        _command(
            "sql",
            "Run a SELECT, and show its rows",
            "sql_command.sql",
            Arg(("query",), metavar="QUERY", help="the query, with a ? for each parameter; - reads it from stdin"),
            Arg(
                ("--param",),
                action="append",
                metavar="VALUE",
                help='a parameter, repeatable: 5, true and null are what they are in JSON, "5" and Oslo are text',
            ),
            CONN_ID,
            PROJECT_ID,
            Arg(
                ("-o", "--output"),
                choices=("table", "json", "csv"),
                default="table",
                help="the form of the result (default: %(default)s)",
            ),
            VERBOSE,
        ),
        _command(
            "local",
            "Run a local Polaris, for tests",
            "local_command.local",
            *LOCAL,
        ),
    )


def commands() -> list[Any]:
    """Return the commands of this provider, for ``airflow``."""
    return [GroupCommand(name=NAME, help=DESCRIPTION, subcommands=subcommands())]
