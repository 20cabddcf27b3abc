"""The format and the compression of a file, by its name."""

from __future__ import annotations

from pathlib import PurePosixPath

DATA_FORMATS = {
    "nd-json": (".json", ".jsonl", ".ndjson"),
    "csv": (".csv", ".tsv", ".txt"),
    "parquet": (".parquet",),
    "orc": (".orc",),
    "avro_ocf": (".avro",),
}
COMPRESSIONS = {"gz": ".gz", "bz2": ".bz2", "xz": ".xz", "zstd": ".zst", "sz": ".sz"}


def formats_of(name: str) -> tuple[str, str]:
    """Return the data format and the compression of a file."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    compression = next((word for word, suffix in COMPRESSIONS.items() if suffix in suffixes[-1:]), "none")
    data_format = next((word for word, ends in DATA_FORMATS.items() if set(ends) & set(suffixes[-2:])), "nd-json")
    return data_format, compression
