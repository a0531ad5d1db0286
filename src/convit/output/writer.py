"""Writing rows: one writer for all formats."""

import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from convit.output.console import printable
from convit.output.files import FORMATS_OF, Rows, WholeFile, explain
from convit.output.rows import Classifications, Embeddings, Layout, PlainRows
from convit.output.text import Csv, Encoder, Json, JsonLines, Markdown, Table

_TEXT = {"json": Json, "jsonl": JsonLines, "csv": Csv, "table": Table, "markdown": Markdown}


def open_writer(
    output: Path | None,
    format: str,  # noqa: A002
    rows: Rows,
    *,
    top_k: int = 5,
    shape: tuple[int, ...] | None = None,
    columns: Sequence[str] = (),
    overwrite: bool = False,
    stream: TextIO | None = None,
    about: Mapping[str, Any] | None = None,
    head: str = "",
    spreadsheet_safe: bool = False,
) -> "Writer":
    """Open a writer for results; use it in a `with` block.

    Args:
        output: the file, which appears when the block ends without an error; `None` for `stream`.
        format: as `choose_format` gives it.
        rows: what will be written: "classification", "embedding", or "rows" for dictionaries.
        top_k: classes per image, `classifier.top_k`; fixes the columns of csv and parquet.
        shape: shape of one embedding, `embedder.shape`; needed by csv, parquet and npz.
        columns: keys of the dictionaries, in the order in which flat formats have them.
        overwrite: whether an existing file may be replaced.
        stream: where text goes without `output`; `None` for standard output.
        about: what else is known of the results (model, kind …), for parquet and npz; anything that JSON takes.
        spreadsheet_safe: for csv, see `convit.output.text.csv_line`.
        head: what stands above a table in markdown.

    Returns:
        The writer.

    Raises:
        ValueError: the format does not suit rows, shape or output.
        OSError: as `check_output`.
    """
    if format not in FORMATS_OF[rows] or (output is None and format not in _TEXT):
        raise ValueError(f"format is {format!r}, which does not suit {rows} rows, or needs a file; see choose_format")
    if rows == "embedding" and shape is None and format in ("csv", "parquet", "npz"):
        raise ValueError(f"{format} needs the shape of one embedding before the first; pass shape=embedder.shape")
    if rows == "classification":
        layout = Classifications(top_k)
    else:
        layout = Embeddings(shape) if rows == "embedding" else PlainRows(columns)
    whole = None if output is None else WholeFile(output, overwrite=overwrite)
    try:
        if whole is not None and format not in _TEXT:
            return Writer(_binary_encoder(whole, format, layout, about), whole)
        text = (stream or sys.stdout) if whole is None else _text_stream(whole)
        if format == "markdown" and head:
            text.write(f"{printable(head)}\n\n")
        if format == "csv":
            return Writer(Csv(text, layout, spreadsheet_safe=spreadsheet_safe), whole)
        return Writer(_TEXT[format](text, layout), whole)
    except BaseException as error:
        if whole is None:
            raise
        whole.discard()
        if isinstance(error, OSError):
            raise explain(error, whole.path) from error
        raise


def write_rows(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str],
    output: Path | None,
    format: str,  # noqa: A002
    **options: Any,
) -> None:
    """Write dictionaries with the same keys, `columns`, as `open_writer` does; `options` are its others."""
    with open_writer(output, format, "rows", columns=columns, **options) as writer:
        for row in rows:
            writer.write(row)


@dataclass(eq=False)
class Writer(AbstractContextManager["Writer", None]):
    """Writes results in order, and counts those `written` and those among them that `failed`; see `open_writer`."""

    _encoder: Encoder
    _whole: WholeFile | None
    written: int = 0
    failed: int = 0

    def write(self, row: Any) -> None:
        """Write one row; raises `OSError` if the disk is full or broken."""
        try:
            self._encoder.add(row)
        except OSError as error:
            raise self._explain(error) from error
        self.written += 1
        self.failed += getattr(row, "error", None) is not None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the file its name, or remove it if an error (or Ctrl-C) ended the block or it cannot be written."""
        try:
            if error is None:
                self._encoder.finish()
                if self._whole is not None:
                    self._whole.keep()
        except OSError as late:
            raise self._explain(late) from late
        finally:
            self._encoder.abandon()
            if self._whole is not None:
                self._whole.discard()

    def _explain(self, error: OSError) -> OSError:
        return error if self._whole is None else explain(error, self._whole.path)


def _text_stream(whole: WholeFile) -> TextIO:
    return io.TextIOWrapper(whole.file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)


def _binary_encoder(whole: WholeFile, format: str, layout: Layout, about: Mapping[str, Any] | None) -> Encoder:  # noqa: A002
    from convit.output.binary import Npz, Parquet

    if format == "parquet":
        return Parquet(whole.file, layout, about=about)
    assert isinstance(layout, Embeddings)
    assert layout.shape is not None
    return Npz(whole.file, whole.folder, shape=layout.shape, about=about)
