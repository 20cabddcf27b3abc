"""What is read from outside: requests, memory, statements of the database, and lines of logs."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from airflow_provider_polaris.local.http.shell import SeenRequest
from scale.processes import TRIGGERERS, ScaleAirflow

PROVIDER = "airflow_provider_polaris"
#: The list of jobs shows so many on a page.
PAGE = 1000
#: A part of the query of the list of jobs that are over.
ENDED = "executionStatus=completed"
#: Two polls of a triggerer are at least this fraction of the interval apart.
SHORTEST_PAUSE = 0.9
#: A look-up of a connection.
CONNECTION_READ = re.compile(r"\bFROM connection\b")
#: What a trigger can ask Airflow for. A triggerer itself needs none of these tables.
TABLES_OF_TRIGGERS = re.compile(
    r"\b(?:FROM|UPDATE|INTO|JOIN)\s+(?:connection|variable|xcom|\w*state_store)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Traffic:
    """The requests of a period, by kind."""

    requests: Sequence[SeenRequest]

    @property
    def pages(self) -> list[SeenRequest]:
        """The requests for a page of the list of jobs."""
        return [one for one in self.requests if one.path.endswith("/jobs")]

    @property
    def ended(self) -> list[SeenRequest]:
        """The requests for a page of the list of jobs that are over."""
        return [one for one in self.pages if ENDED in one.query]

    @property
    def polls(self) -> list[SeenRequest]:
        """The requests for the first page of the list of active jobs."""
        return [one for one in self.pages if "paginationOffset=0" in one.query and ENDED not in one.query]

    @property
    def jobs(self) -> list[SeenRequest]:
        """The requests for a job by id."""
        return [one for one in self.requests if one.path.split("/")[-2] == "jobs"]

    @property
    def by_id(self) -> Counter[str]:
        """How many requests there were for each job."""
        return Counter(one.path.rpartition("/")[2] for one in self.jobs)

    @property
    def polling(self) -> int:
        """How many requests polled: pages, and jobs by id."""
        return len(self.pages) + self.by_id.total()

    @property
    def reports(self) -> int:
        """How many requests were for lines with a job's progress, and for counters."""
        return sum(one.path.endswith(("/progress", "/metrics")) for one in self.requests)

    @property
    def changing(self) -> list[str]:
        """The requests that may change a job."""
        return [f"{one.method} {one.path}" for one in self.requests if one.method != "GET"]

    def most_within(self, seconds: float) -> int:
        """Return the most requests that polled within any period of so many seconds."""
        times = [one.at for one in self.requests if not one.path.endswith(("/progress", "/metrics"))]
        start = most = 0
        for end, at in enumerate(times):
            while at - times[start] > seconds:
                start += 1
            most = max(most, end - start + 1)
        return most


@dataclass(frozen=True)
class ProcessMemory:
    """The memory of a process, in MB. Programs and libraries do not count on Linux: other processes share them.

    :param own: what the process uses.
    :param share: the same, but memory that the process shares with its parent counts in parts.
    """

    own: float
    share: float

    @classmethod
    def of(cls, process: psutil.Process) -> ProcessMemory:
        """Read the memory of a process."""
        rollup = Path("/proc", str(process.pid), "smaps_rollup")
        if not rollup.exists():
            unique = process.memory_full_info().uss / 1e6
            return cls(unique, unique)
        kilobytes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", rollup.read_text(), re.MULTILINE))
        return cls(1024 * int(kilobytes["Anonymous"]) / 1e6, 1024 * int(kilobytes["Pss_Anon"]) / 1e6)


@dataclass
class Memory:
    """The memory of the triggerers over time, in MB.

    :param whole: the samples of each triggerer with all its processes.
    :param triggers: the samples of the process in which the triggers run.
    """

    whole: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in TRIGGERERS})
    triggers: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in TRIGGERERS})

    def sample(self, airflow: ScaleAirflow) -> None:
        """Read the memory of each triggerer. The file ``memory.json`` has a line for each reading."""
        for name in TRIGGERERS:
            taken = {f"{one.name()} {one.pid}": ProcessMemory.of(one) for one in airflow.tree(name)}
            self.whole[name].append(sum(one.share for one in taken.values()))
            self.triggers[name].append(ProcessMemory.of(airflow.runner(name)).own)
            with (airflow.home / "memory.json").open("a") as readings:
                readings.write(
                    json.dumps({"triggerer": name, **{key: asdict(one) for key, one in taken.items()}}) + "\n"
                )


def growth(samples: Mapping[str, list[float]]) -> float:
    """Return the most that a process grew: the median of the last third of its samples less that of the first third."""

    def grown(taken: list[float]) -> float:
        third = max(1, len(taken) // 3)
        return statistics.median(taken[-third:]) - statistics.median(taken[:third])

    return max(map(grown, samples.values()))


@dataclass(frozen=True)
class Statements:
    """What the triggerers did in Airflow's database.

    :param transactions: all transactions.
    :param of_triggers: those that read or wrote what a trigger has asked for.
    :param connections: how often a connection was read.
    """

    transactions: int
    of_triggers: int
    connections: int

    @classmethod
    def from_log(cls, text: str) -> Statements:
        """Count in a log of PostgreSQL, whose lines begin with the names of program and process."""
        transactions = of_triggers = connections = 0
        open_ones: dict[str, list[str]] = {}
        for name, process, statement in _statements(text):
            if name not in TRIGGERERS:
                continue
            word = statement.split(None, 1)[0].upper() if statement.strip() else ""
            if word.startswith("BEGIN"):
                open_ones[process] = []
            elif word.startswith(("COMMIT", "ROLLBACK")):
                done = open_ones.pop(process, [])
                transactions += bool(done)
                of_triggers += any(TABLES_OF_TRIGGERS.search(one) for one in done)
                connections += sum(bool(CONNECTION_READ.search(one)) for one in done)
            else:
                open_ones.setdefault(process, []).append(statement)
        return cls(transactions, of_triggers, connections)


def _statements(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield program, process and text of each statement. A statement of several lines continues with tabs."""
    entry = re.compile(r"^([^|\n]*)\|(\d+)\|LOG:  (?:statement|execute [^:]*): (.*(?:\n\t.*)*)", re.MULTILINE)
    for match in entry.finditer(text):
        yield match[1], match[2], match[3]


@contextmanager
def logged_statements(airflow: ScaleAirflow) -> Iterator[list[Statements]]:
    """Let the server log each statement. The list has the counts after the block."""
    counted: list[Statements] = []
    with airflow.database.log.open(encoding="utf-8", errors="replace") as log:
        log.seek(0, 2)
        _log_statements(airflow, "all")
        try:
            yield counted
        finally:
            _log_statements(airflow, "none")
        text = log.read()
    # For a person who wants to know more than the counts.
    (airflow.home / "statements.log").write_text(text)
    counted.append(Statements.from_log(text))


def _log_statements(airflow: ScaleAirflow, which: str) -> None:
    airflow.database.run(f"alter system set log_statement = '{which}'")
    airflow.database.run("select pg_reload_conf()")


class LogLines:
    """The lines that were written since the last call, in the logs of the triggerers and of their triggers."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._read: dict[Path, int] = {}

    def new(self) -> list[str]:
        """Return the new lines."""
        lines: list[str] = []
        for path in self._paths():
            with path.open("rb") as log:
                log.seek(self._read.get(path, 0))
                text = log.read()
                # A line that is being written is read the next time.
                whole = text[: text.rfind(b"\n") + 1]
                self._read[path] = self._read.get(path, 0) + len(whole)
            lines += whole.decode(errors="replace").splitlines()
        return lines

    def _paths(self) -> list[Path]:
        return [*self._home.glob("triggerer-*.log"), *self._home.glob("logs/**/*.trigger.*.log")]


def of_provider(lines: Iterable[str]) -> list[str]:
    """Return the lines that the provider's own loggers wrote."""
    return [line for line in lines if f"[{PROVIDER}" in line or _logger_of(line).startswith(PROVIDER)]


def _logger_of(line: str) -> str:
    try:
        fields = json.loads(line)
    except ValueError:
        return ""
    return str(fields.get("logger", "")) if isinstance(fields, dict) else ""


def fired(lines: Iterable[str], dag_id: str) -> Counter[tuple[str, int]]:
    """Count the events of the triggers of a DAG, by run and map index. Airflow ignores a second event of a trigger."""
    event = re.compile(rf"Trigger fired event.*?\b{dag_id}/([^/]+)/[^/]+/(\d+)/")
    return Counter((match[1], int(match[2])) for line in lines if (match := event.search(line)))
