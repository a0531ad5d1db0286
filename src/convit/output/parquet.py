"""Rows as Parquet, one row group at a time."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np

from convit.output.results import Classification
from convit.output.rows import Result, as_flat_row, classification_columns

_GROUP_VALUES = 2**22  # numbers per row group: 16 MB of float32
_GROUP_ROWS = 1024


class Parquet:
    """A Parquet file: label, index and score per rank, or one list of fixed size per picture; then the error.

    Embeddings are `fixed_size_list<float>[dim]`, or a list of these per token; null where a picture failed.

    Args:
        file: where to write.
        top_k: ranks per picture.
        shape: shape of one embedding; `None` for classifications.
        about: what else is known, kept as JSON under "convit" in the file's metadata.
    """

    def __init__(
        self, file: BinaryIO, *, top_k: int, shape: tuple[int, ...] | None, about: Mapping[str, Any] | None
    ) -> None:
        import pyarrow.parquet as pq

        self._top_k = top_k
        self._schema = _schema(top_k, shape)
        if about:
            self._schema = self._schema.with_metadata({"convit": json.dumps(dict(about), sort_keys=True)})
        self._shape = shape or ()
        self._group = max(1, min(_GROUP_ROWS, _GROUP_VALUES // math.prod(self._shape)))
        self._held: list[list[Any]] = []
        self._writer = pq.ParquetWriter(file, self._schema)

    def add(self, result: Result) -> None:
        """Hold a row back until its group is full."""
        if isinstance(result, Classification):
            self._held.append(as_flat_row(result, self._top_k))
        else:
            self._held.append([result.path, result.values, result.error])
        if len(self._held) >= self._group:
            self._write_group()

    def finish(self) -> None:
        """Write the last group and the file's foot."""
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
            _as_lists(column, self._shape) if field.name == "embedding" else pa.array(column, type=field.type)
            for column, field in zip(zip(*self._held, strict=True), self._schema, strict=True)
        ]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        self._held.clear()


def _as_lists(column: Sequence[np.ndarray | None], shape: tuple[int, ...]) -> Any:
    """Embeddings as (lists of) lists of fixed size, without a Python object for each number."""
    import pyarrow as pa

    missing = np.array([values is None for values in column])
    filled = np.zeros((len(column), *shape), dtype=np.float32)
    for row, values in zip(filled, column, strict=True):
        if values is not None:
            row[:] = values
    lists: Any = pa.array(filled.reshape(-1))
    for length in reversed(shape[1:]):
        lists = pa.FixedSizeListArray.from_arrays(lists, length)
    return pa.FixedSizeListArray.from_arrays(lists, shape[0], mask=pa.array(missing))


def _schema(top_k: int, shape: tuple[int, ...] | None) -> Any:
    import pyarrow as pa

    if shape is not None:
        kind = pa.float32()
        for length in reversed(shape):
            kind = pa.list_(kind, length)
        return pa.schema([("path", pa.string()), ("embedding", kind), ("error", pa.string())])
    kinds = {"label": pa.string(), "index": pa.int32(), "score": pa.float32()}
    names = classification_columns(top_k)
    return pa.schema([(name, kinds.get(name.partition("_")[0], pa.string())) for name in names])
