"""Writing results: one writer for all formats."""

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from convit.output.files import WholeFile, explain
from convit.output.formats import Rows, choose_format
from convit.output.rows import Result
from convit.output.table import Table
from convit.output.text import Csv, Encoder, Json, JsonLines


def open_writer(
    output: Path | None,
    format: str,  # noqa: A002
    rows: Rows,
    *,
    top_k: int = 5,
    shape: tuple[int, ...] | None = None,
    overwrite: bool = False,
    stream: TextIO | None = None,
    about: Mapping[str, Any] | None = None,
) -> "Writer":
    """Open a writer for results; use it in a `with` block.

    Args:
        output: the file, which appears when the block ends without an error; `None` for `stream`.
        format: as `choose_format` gives it.
        rows: what will be written, "classification" or "embedding".
        top_k: classes per picture, `classifier.top_k`; fixes the columns of csv and parquet.
        shape: shape of one embedding, `embedder.shape`; needed by csv, parquet and npz.
        overwrite: whether an existing file may be replaced.
        stream: where text goes without `output`; `None` for standard output.
        about: what else is known of the results (model, kind …), for parquet and npz; anything that JSON takes.

    Returns:
        The writer.

    Raises:
        ValueError: the format does not suit rows, shape or output.
        FileExistsError and other OSErrors: as `check_output`.
    """
    choose_format(output, format, rows, to_terminal=False)
    if rows == "embedding" and shape is None and format in ("csv", "parquet", "npz"):
        raise ValueError(f"{format} needs the shape of one embedding before the first; pass shape=embedder.shape")
    shape = shape if rows == "embedding" else None
    if output is None:
        return Writer(_text_encoder(stream or sys.stdout, format, rows, top_k, shape), None)
    whole = WholeFile(output, overwrite=overwrite)
    try:
        return Writer(_file_encoder(whole, format, rows, top_k, shape, about), whole)
    except OSError as error:
        whole.discard()
        raise explain(error, output) from error
    except BaseException:
        whole.discard()
        raise


class Writer:
    """Writes results in order; made by `open_writer`.

    Attributes:
        written: results so far.
        failed: those among them with an error.
    """

    def __init__(self, encoder: Encoder, whole: WholeFile | None) -> None:
        self._encoder = encoder
        self._whole = whole
        self.written = 0
        self.failed = 0

    def write(self, result: Result) -> None:
        """Write one result.

        Raises:
            OSError: the disk is full or broken; one line that says what to do.
        """
        try:
            self._encoder.add(result)
        except OSError as error:
            raise self._explain(error) from error
        self.written += 1
        self.failed += result.error is not None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the file its name, or remove it if an error (or Ctrl-C) ended the block.

        Raises:
            OSError: the rest cannot be written; nothing is left behind then.
        """
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


def _file_encoder(
    whole: WholeFile,
    format: str,  # noqa: A002
    rows: Rows,
    top_k: int,
    shape: tuple[int, ...] | None,
    about: Mapping[str, Any] | None,
) -> Encoder:
    if format == "parquet":
        from convit.output.parquet import Parquet

        return Parquet(whole.file, top_k=top_k, shape=shape, about=about)
    if format == "npz":
        from convit.output.npz import Npz

        assert shape is not None
        return Npz(whole.file, whole.path.resolve().parent, shape=shape, about=about)
    stream = io.TextIOWrapper(whole.file, encoding="utf-8", newline="", write_through=True)
    return _text_encoder(stream, format, rows, top_k, shape)


def _text_encoder(stream: TextIO, format: str, rows: Rows, top_k: int, shape: tuple[int, ...] | None) -> Encoder:  # noqa: A002
    if format == "json":
        return Json(stream)
    if format == "jsonl":
        return JsonLines(stream)
    if format == "csv":
        return Csv(stream, top_k=top_k, shape=shape)
    return Table(stream, rows)
