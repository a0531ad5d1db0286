"""Rows as Parquet, a row group at a time, and embeddings as a NumPy archive: neither holds them all in memory."""

import json
import math
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import numpy as np

from convit.output.rows import Embedding, Embeddings, Layout
from convit.output.text import Encoder

_GROUP_VALUES = 2**22  # numbers per row group: 16 MB of float32
_GROUP_ROWS = 1024


class Parquet(Encoder):
    """A Parquet file; what is known `about` the rows is kept as JSON under "convit" in its metadata.

    Rows without types of their own are held until the end, since an empty column has none yet.
    """

    def __init__(self, file: BinaryIO, layout: Layout, *, about: Mapping[str, Any] | None = None) -> None:
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

    def add(self, row: Any) -> None:
        """Hold a row back until its group is full."""
        vectors = isinstance(self._layout, Embeddings)
        self._held.append([row.path, row.values, row.error] if vectors else self._layout.as_values(row))
        if len(self._held) >= self._group:
            self._write_group()

    def finish(self) -> None:
        """Write the last group and the file's foot."""
        if self._held or not self._writer:
            self._write_group()
        self._writer.close()

    def abandon(self) -> None:
        """Close the writer; its file is thrown away."""
        with suppress(Exception):  # the foot may not fit on a full disk either
            self._writer.close()

    def _write_group(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = self._layout.columns if self._schema is None else self._schema.names
        columns = zip(*self._held, strict=True) if self._held else [()] * len(names)
        cells = {
            name: as_lists(column, self._shape) if name == "embedding" else [*map(_spelled, column)]
            for name, column in zip(names, columns, strict=True)
        }
        table = pa.table(cells, schema=self._schema)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)
        self._held.clear()


class Npz(Encoder):
    """A file for `numpy.load`: `paths` (N), `embeddings` (N, *shape) float32 and `errors` (N), in order.

    An image that failed has NaN for all its values and its message in `errors`, which is "" for the others. What else
    is known is kept as a JSON string in `about`. The embeddings wait in `folder` until their number is known.
    """

    def __init__(
        self, file: BinaryIO, folder: Path, *, shape: tuple[int, ...], about: Mapping[str, Any] | None
    ) -> None:
        self._file = file
        self._shape = shape
        self._about = about
        self._paths: list[str] = []
        self._errors: list[str] = []
        self._values = TemporaryFile(dir=folder)  # noqa: SIM115  # closed by finish and abandon

    def add(self, row: Embedding) -> None:
        """Write one embedding."""
        values = np.full(self._shape, np.nan) if row.values is None else row.values
        self._values.write(np.ascontiguousarray(values, dtype="<f4").tobytes())
        self._paths.append(row.path)
        self._errors.append(row.error or "")

    def finish(self) -> None:
        """Put everything into the archive."""
        with self._values, zipfile.ZipFile(self._file, "w") as archive:
            texts: dict[str, list[str] | str] = {"paths": self._paths, "errors": self._errors}
            if self._about:
                texts["about"] = json.dumps(dict(self._about), sort_keys=True)
            for name, text in texts.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.array(text, dtype=np.str_), allow_pickle=False)
            with archive.open("embeddings.npy", "w", force_zip64=True) as member:
                shape = (len(self._paths), *self._shape)
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                self._values.seek(0)
                shutil.copyfileobj(self._values, member, 2**20)

    def abandon(self) -> None:
        """Throw the embeddings away."""
        with suppress(OSError):  # what is buffered may not fit on the disk
            self._values.close()


def _spelled(value: Any) -> Any:
    """A file name that is not UTF-8 with its bytes spelled out; other values as they are."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def as_lists(column: Sequence[np.ndarray | None], shape: tuple[int, ...]) -> Any:
    """Embeddings, (dim,) or (tokens, dim), as (lists of) lists of fixed size, without an object for each number."""
    import pyarrow as pa

    # pyarrow takes 1-d arrays for lists, but no 2-d ones for lists of lists
    lists = [list(values) if values is not None and values.ndim > 1 else values for values in column]
    return pa.array(lists, type=Embeddings(shape).schema().field("embedding").type)
