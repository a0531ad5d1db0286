"""Which format results are written in."""

import sys
from pathlib import Path
from typing import Literal

Rows = Literal["classification", "embedding", "rows"]

FORMATS = ("table", "json", "jsonl", "csv", "parquet", "npz", "markdown")
FORMATS_OF: dict[str, tuple[str, ...]] = {
    "classification": ("table", "json", "jsonl", "csv", "parquet"),
    "embedding": ("table", "json", "jsonl", "csv", "parquet", "npz"),
    "rows": ("table", "json", "jsonl", "csv", "parquet", "markdown"),
}
SUFFIXES = {
    "table": ".txt",
    "json": ".json",
    "jsonl": ".jsonl",
    "csv": ".csv",
    "parquet": ".parquet",
    "npz": ".npz",
    "markdown": ".md",
}
_FILES_ONLY = ("parquet", "npz")


def choose_format(
    output: Path | None,
    format: str | None,  # noqa: A002
    rows: Rows | tuple[str, ...],
    *,
    to_terminal: bool | None = None,
) -> str:
    """Choose how results are written: as asked, else by the file's suffix, else by who reads.

    Args:
        output: the file, or `None` for standard output.
        format: one of `FORMATS` if the caller names it.
        rows: what is written, "classification", "embedding" or "rows"; or the formats that a single result has, the one
            for people first.
        to_terminal: whether standard output is a terminal, whose reader gets a table; `None` to find out. Anybody else
            gets JSON lines of rows and JSON of a single result.

    Returns:
        One of `FORMATS`.

    Raises:
        ValueError: an unknown format or suffix, one that does not suit the rows, or one that needs a file and has none.

    >>> choose_format(Path("labels.csv"), None, "classification", to_terminal=True)
    'csv'
    """
    formats = FORMATS_OF[rows] if isinstance(rows, str) else rows
    chosen = format
    if chosen is None and output is None:
        for_people = sys.stdout.isatty() if to_terminal is None else to_terminal
        chosen = formats[0] if for_people else "jsonl" if "jsonl" in formats else "json"
    elif chosen is None and output is not None:
        chosen = next((each for each in formats if SUFFIXES[each] == output.suffix.lower()), None)
        if chosen is None:
            suffix = f"the suffix {output.suffix!r}" if output.suffix else "a name without a suffix"
            known = ", ".join(SUFFIXES[each] for each in formats)
            raise ValueError(f"{output}: {suffix} does not stand for a format here; use one of {known}")
    if chosen not in formats:
        raise ValueError(f"format is {chosen!r}, but must be one of {', '.join(formats)}")
    if output is None and chosen in _FILES_ONLY:
        raise ValueError(f"{chosen} is not text and needs a file; name one as output")
    return chosen
