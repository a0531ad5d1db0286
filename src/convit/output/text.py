"""Rows as JSON, JSON lines and CSV, written one by one."""

import csv
import json
from typing import Any, Protocol, TextIO, runtime_checkable

from convit.output.results import Classification
from convit.output.rows import Result, as_flat_row, as_json, classification_columns, shorten


@runtime_checkable
class Encoder(Protocol):
    """Writes results in one format to an open file."""

    def add(self, result: Result) -> None:
        """Write one result, or hold it back until there are enough."""
        ...

    def finish(self) -> None:
        """Write what is held back and whatever ends the file."""
        ...

    def abandon(self) -> None:
        """Let go of everything without writing."""
        ...


class JsonLines:
    """One JSON object per line and picture."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def add(self, result: Result) -> None:
        """Write one line; a reader at the other end of a pipe gets it at once."""
        self._stream.write(_dump(result) + "\n")
        self._stream.flush()

    def finish(self) -> None:
        """Hold nothing back."""

    def abandon(self) -> None:
        """Hold nothing back."""


class Json:
    """One JSON array with an object per picture."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._before = "[\n"

    def add(self, result: Result) -> None:
        """Write one object."""
        self._stream.write(self._before + _dump(result))
        self._before = ",\n"

    def finish(self) -> None:
        """Close the array."""
        self._stream.write("[]\n" if self._before == "[\n" else "\n]\n")

    def abandon(self) -> None:
        """Hold nothing back."""


class Csv:
    """One line per picture, with a head line: label, index and score per rank, or one column per dimension.

    Args:
        stream: where to write; opened with `newline=""`.
        top_k: ranks per picture.
        shape: shape of one embedding; `None` for classifications.

    Raises:
        ValueError: embeddings with more than one vector per picture.
    """

    def __init__(self, stream: TextIO, *, top_k: int, shape: tuple[int, ...] | None) -> None:
        if shape is not None and len(shape) != 1:
            raise ValueError(
                f"csv holds one vector per picture, but these are {' x '.join(map(str, shape))}; "
                "use parquet, npz or jsonl"
            )
        self._writer = csv.writer(stream, lineterminator="\n")
        self._top_k = top_k
        self._dim = None if shape is None else shape[0]
        columns = classification_columns(top_k)
        if self._dim is not None:
            columns = ["path", *(f"value_{index}" for index in range(self._dim)), "error"]
        self._writer.writerow(columns)

    def add(self, result: Result) -> None:
        """Write one line."""
        if isinstance(result, Classification):
            self._writer.writerow(as_flat_row(result, self._top_k))
            return
        values: list[Any] = [None] * (self._dim or 0)
        if result.values is not None:
            values = [shorten(value) for value in result.values.tolist()]
        self._writer.writerow([result.path, *values, result.error])

    def finish(self) -> None:
        """Hold nothing back."""

    def abandon(self) -> None:
        """Hold nothing back."""


def _dump(result: Result) -> str:
    return json.dumps(as_json(result), ensure_ascii=False, allow_nan=False)
