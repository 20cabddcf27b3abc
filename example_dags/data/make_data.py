"""Write the demo's data: two days of orders, with a few broken rows.

    python example_dags/data/make_data.py

Each run writes the same 24,000 lines. Polaris cannot parse seven of them: cut-off lines and error pages. Five rows have
a text in a column of numbers. Each row has a timestamp: a row without one would fail the whole job.
"""

from __future__ import annotations

import gzip
import json
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

HERE = Path(__file__).parent
ROWS_A_DAY = 12_000
COUNTRIES = ("AU", "BR", "DE", "FR", "IN", "JP", "US")

Row = dict[str, object]


def order(chance: random.Random, number: int, moment: datetime) -> Row:
    """Return one good order."""
    return {
        "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "order_id": f"o-{number:07d}",
        "country": chance.choice(COUNTRIES),
        "items": chance.randint(1, 9),
        "amount": chance.randint(500, 25_000) / 100,
    }


def cut_off(row: Row) -> str:
    """Break a row like a producer that is killed while it writes."""
    return json.dumps(row)[:41]


def error_page(_row: Row) -> str:
    """Break a row like an export that saves the error page of a gateway as data."""
    return "<html><head><title>502 Bad Gateway</title></head></html>"


def decimal_comma(row: Row) -> str:
    """Write a number with a comma, like a spreadsheet in another locale."""
    return json.dumps({**row, "amount": str(row["amount"]).replace(".", ",")})


def not_available(row: Row) -> str:
    """Replace a number by a word."""
    return json.dumps({**row, "items": "N/A"})


BREAKS = {
    1: {1_503: cut_off, 4_711: error_page, 4_712: error_page, 7_000: decimal_comma, 9_999: not_available},
    2: {
        17: cut_off,
        2_048: error_page,
        2_049: error_page,
        3_000: decimal_comma,
        3_001: decimal_comma,
        8_080: not_available,
        11_999: cut_off,
    },
}


def day(number: int) -> bytes:
    """Return the file of one day."""
    chance = random.Random(number)  # noqa: S311 - the same rows each time
    start = datetime(2026, 11, number, tzinfo=timezone.utc)
    lines = []
    for index in range(ROWS_A_DAY):
        row = order(chance, number * 1_000_000 + index, start + timedelta(seconds=index * 7))
        write = BREAKS[number].get(index, json.dumps)
        lines.append(write(row))
    return ("\n".join(lines) + "\n").encode()


if __name__ == "__main__":
    for number in BREAKS:
        name = HERE / f"orders-2026-11-0{number}.json.gz"
        name.write_bytes(gzip.compress(day(number), mtime=0))
        print(name.name, name.stat().st_size, "bytes")
