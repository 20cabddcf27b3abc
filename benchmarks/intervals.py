"""Compare the default interval of a wait with fixed ones: how late the task is, and how many requests it sends.

python -m benchmarks.intervals [--json] prints a table in Markdown. The time is virtual, and nothing is sent: the pauses
are those of the class with which every wait of this provider is paced.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
from collections.abc import Callable

from airflow_provider_polaris.polling.polled_wait import LONGEST_SECONDS, Pace

#: Seconds for which the jobs run, and the name of each duration.
DURATIONS = {20.0: "20 s", 600.0: "10 min", 6 * 3600.0: "6 h"}
JOBS = 2_000
#: The intervals of other providers, as their releases of November 2026 come: databricks 7.23.0, dbt-cloud 4.11.1 (of
#: its operator), airbyte 6.2.0 (of its deferred sensor) and fivetran-async 2.4.0 (of its sensor).
PEERS = {"databricks": 30.0, "dbt-cloud": 60.0, "airbyte": 5.0, "fivetran": 60.0}


def rules() -> dict[str, Callable[[], Pace]]:
    """Return how each provider paces a wait, by its name."""
    fixed = {
        f"{name}, {interval:g} s": lambda interval=interval: Pace(interval, spread=0.0)
        for name, interval in PEERS.items()
    }
    return {"this provider": lambda: Pace(LONGEST_SECONDS, waited=0.0), **fixed}


def measure(pace: Callable[[], Pace], duration: float) -> dict[str, float]:
    """Return how late the tasks of many jobs are, in seconds, and the requests of one task.

    The jobs run for a little more or less than the duration, so that they end at any moment between two polls.
    """
    late, requests = [], []
    draw = random.Random(7)  # noqa: S311 - not for secrets
    for _ in range(JOBS):
        ends = duration + draw.uniform(-0.1, 0.1) * duration
        now, polls, paced = 0.0, 1, pace()
        while now < ends:
            now += paced.pause()
            polls += 1
        late.append(now - ends)
        requests.append(polls)
    return {"mean": statistics.mean(late), "most": max(late), "requests": statistics.mean(requests)}


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the figures in Markdown."""
    heads = [f"job of {name}: late, at most, requests" for name in DURATIONS.values()]
    lines = [f"| provider | {' | '.join(heads)} |", f"| --- |{' ---: |' * len(heads)}"]
    for provider, row in figures.items():
        cells = [f"{one['mean']:.0f} s, {one['most']:.0f} s, {math.ceil(one['requests']):,}" for one in row.values()]
        lines.append(f"| {provider} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    figures = {
        provider: {name: measure(pace, duration) for duration, name in DURATIONS.items()}
        for provider, pace in rules().items()
    }
    print(json.dumps(figures) if options.json else table(figures))


if __name__ == "__main__":
    main()
