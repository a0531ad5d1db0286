"""Which format results are written in."""

from pathlib import Path
from typing import Literal

Rows = Literal["classification", "embedding"]

FORMATS = ("table", "json", "jsonl", "csv", "parquet", "npz")
SUFFIXES = {
    ".txt": "table",
    ".json": "json",
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".npz": "npz",
}
_FILES_ONLY = ("parquet", "npz")


def choose_format(output: Path | None, format: str | None, rows: Rows, *, to_terminal: bool) -> str:  # noqa: A002
    """Choose how results are written: as asked, else by the file's suffix, else by who reads.

    Args:
        output: the file, or `None` for standard output.
        format: one of `FORMATS` if the caller names it.
        rows: what is written, "classification" or "embedding".
        to_terminal: whether standard output is a terminal; then it is a table, else JSON lines.

    Returns:
        One of `FORMATS`.

    Raises:
        ValueError: an unknown format or suffix, one that does not suit the rows, or one that needs a file and has none.

    >>> choose_format(Path("labels.csv"), None, "classification", to_terminal=True)
    'csv'
    """
    chosen = format
    if chosen is None and output is None:
        chosen = "table" if to_terminal else "jsonl"
    elif chosen is None and output is not None:
        chosen = SUFFIXES.get(output.suffix.lower())
        if chosen is None:
            suffix = f"the suffix {output.suffix!r}" if output.suffix else "a name without a suffix"
            raise ValueError(f"{output}: {suffix} stands for no format; use {', '.join(SUFFIXES)}, or name the format")
    if chosen not in FORMATS:
        raise ValueError(f"format is {chosen!r}, but must be one of {', '.join(FORMATS)}")
    if chosen == "npz" and rows == "classification":
        raise ValueError("npz holds embeddings only; write labels as table, json, jsonl, csv or parquet")
    if output is None and chosen in _FILES_ONLY:
        raise ValueError(f"{chosen} is no text and needs a file; name one as output")
    return chosen
