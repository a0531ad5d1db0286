"""Rows as Parquet, one row group at a time."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np

from convit.output.rows import Embeddings, Layout
from convit.output.text import Encoder

_GROUP_VALUES = 2**22  # numbers per row group: 16 MB of float32
_GROUP_ROWS = 1024


class Parquet(Encoder):
    """A Parquet file; what is known `about` the rows is kept as JSON under "convit" in its metadata.

    Rows without types of their own are held until the end, since an empty column has none yet.
    """

    def __init__(self, file: BinaryIO, layout: Layout, *, about: Mapping[str, Any] | None = None) -> None:
        import pyarrow.parquet as pq

        self._file, self._layout = file, layout
        self._held: list[Sequence[Any]] = []
        self._schema = layout.schema()
        self._writer: Any = None
        self._group = math.inf
        self._shape = (layout.shape or ()) if isinstance(layout, Embeddings) else ()
        if self._schema is not None:
            if about:
                self._schema = self._schema.with_metadata({"convit": json.dumps(dict(about), sort_keys=True)})
            self._group = max(1, min(_GROUP_ROWS, _GROUP_VALUES // math.prod(self._shape)))
            self._writer = pq.ParquetWriter(file, self._schema)

    def add(self, row: Any) -> None:
        """Hold a row back until its group is full."""
        vectors = isinstance(self._layout, Embeddings)
        self._held.append([row.path, row.values, row.error] if vectors else self._layout.as_values(row))
        if len(self._held) >= self._group:
            self._write_group()

    def finish(self) -> None:
        """Write the last group and the file's foot."""
        if self._writer is None:
            import pyarrow as pa
            import pyarrow.parquet as pq

            columns = zip(*self._held, strict=True) if self._held else [()] * len(self._layout.columns)
            cells = ([*map(_spelled, column)] for column in columns)
            pq.write_table(pa.table(dict(zip(self._layout.columns, cells, strict=True))), self._file)
            return
        self._write_group()
        self._writer.close()

    def abandon(self) -> None:
        """Close the writer; its file is thrown away."""
        with suppress(Exception):  # the foot may not fit on a full disk either
            self._writer.close()

    def _write_group(self) -> None:
        if not self._held:
            return
        import pyarrow as pa

        columns = [
            as_lists(column, self._shape) if field.name == "embedding" else pa.array(column, type=field.type)
            for column, field in zip(zip(*self._held, strict=True), self._schema, strict=True)
        ]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        self._held.clear()


def _spelled(value: Any) -> Any:
    """A file name that is not UTF-8 with its bytes spelled out; other values as they are."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def as_lists(column: Sequence[np.ndarray | None], shape: tuple[int, ...]) -> Any:
    """Embeddings, (dim,) or (tokens, dim), as (lists of) lists of fixed size, without an object for each number."""
    import pyarrow as pa

    # pyarrow takes 1-d arrays for lists, but no 2-d ones for lists of lists
    lists = [list(values) if values is not None and values.ndim > 1 else values for values in column]
    return pa.array(lists, type=Embeddings(shape).schema().field("embedding").type)
