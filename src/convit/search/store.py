"""The rows of an index: a LanceDB table, every change of which is whole or not there."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convit.images.names import UNSAFE, was_url
from convit.output.files import explained as explained_disk

TABLE = "images"
FILE = "index.json"
_AT_ONCE = 500  # paths in one condition
# what LanceDB says of files that are lost, cut off or overwritten
_DAMAGE = (
    "corrupt",
    "does not appear to be a Lance file",
    "does not have sufficient data",
    "failed to decode Protobuf",
    "file size is too small",
    "for object of size",
    "Not found:",
    "is not aligned to",
    "was not found",
)


def check_place(db: Path, *, create: bool) -> None:
    """Refuse a folder that holds no index, or where none can be made; without torch.

    Raises:
        FileNotFoundError: there is none, and `create` is false.
        FileExistsError: the folder holds something else.
        ValueError: its path has control characters, or is not UTF-8.
    """
    if UNSAFE.search(os.fspath(db)):
        raise ValueError(f"{db}: LanceDB opens no folder with control characters in its path; choose another name")
    if was_url(db):
        raise ValueError(f"{db} is a URL, but an index is a folder on this machine; name one, and copy it afterwards")
    if (db / FILE).exists():
        return
    if db.is_dir() and any(entry.name != ".lock" for entry in db.iterdir()):
        damaged = f"; its {FILE} is missing" if Store.is_in(db) else ""
        raise FileExistsError(f"{db} holds other files and no index{damaged}; choose another folder")
    if db.exists() and not db.is_dir():
        raise FileExistsError(f"{db} is a file, not an index; choose another name")
    if not create:
        raise FileNotFoundError(f"{db}: there is no index; make one with convit index FOLDER --db {db}")


class FileRow(NamedTuple):
    """What a row says of its file: sha256 of its content, bytes, when it was last written (nanoseconds), its class."""

    sha256: str
    size: int
    mtime_ns: int
    label: str | None


class Store:
    """One table of images: path, sha256, size, mtime_ns, width, height, label, vector (of length `dim`).

    With `in_shards`, `shard` stands before the vector: which results of a job a row is from. Vectors of a new table
    are float16 with `is_half`.

    Raises:
        FileNotFoundError: there is no table, and `create` is false.
        ValueError: the table is damaged or has other columns.
        OSError: as `explained`, as from all that reads or writes it.
    """

    def __init__(self, db: Path, dim: int, *, create: bool, in_shards: bool = False, is_half: bool = False) -> None:
        os.environ.setdefault("LANCEDB_LOG", "error")  # it warns of how it finds the centers of a few vectors
        import lancedb

        self.db, self.dim = db, dim
        self.schema = _schema(dim, in_shards, is_half)
        there = self.is_in(db)
        if not there and not create:
            raise FileNotFoundError(f"{db}: its first indexing was interrupted; run convit index on it again")
        with explained(db):
            connection = lancedb.connect(db)
            self.table: Any = (
                connection.open_table(TABLE) if there else connection.create_table(TABLE, schema=self.schema)
            )
        if self.table.schema.names != self.schema.names:
            raise ValueError(f"{db} holds a table with other columns; choose another folder")
        self.schema = self.table.schema

    @staticmethod
    def is_in(db: Path) -> bool:
        """Whether there is a table."""
        return (db / f"{TABLE}.lance").is_dir()

    @property
    def version(self) -> int:
        """Number of the table's state; every change makes a new one."""
        with explained(self.db):
            return int(self.table.version)

    def __len__(self) -> int:
        with explained(self.db):
            return int(self.table.count_rows())

    def files(self) -> dict[str, FileRow]:
        """Path → what is known of that file."""
        rows = self.read(["path", *FileRow._fields])
        columns = (rows.column(name).to_pylist() for name in rows.column_names)
        return {path: FileRow(*row) for path, *row in zip(*columns, strict=True)}

    def read(self, columns: Sequence[str], where: str | None = None, *, row_ids: bool = False) -> Any:
        """Some columns of all rows, or of those that an SQL condition picks, as an Arrow table."""
        with explained(self.db):
            query = self.table.search().select(list(columns)).with_row_id(row_ids)
            return (query.where(where) if where else query).to_arrow()

    def take(self, row_ids: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Rows by number, in that order."""
        with explained(self.db):
            rows = self.table.take_row_ids(list(row_ids)).select(list(columns)).with_row_id().to_arrow()
        found = {row.pop("_rowid"): row for row in rows.to_pylist()}
        if missing := [row_id for row_id in row_ids if row_id not in found]:
            raise ValueError(f"{self.db} has no row {missing[0]}; delete vectors-*.npy and rows-*.npy there")
        return [found[row_id] for row_id in row_ids]

    def put(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add rows, or replace those of the same path; all of them in one step."""
        import pyarrow as pa

        if not rows:
            return
        *plain, _ = self.schema
        columns = [pa.array([row[field.name] for row in rows], type=field.type) for field in plain]
        columns.append(self.column(np.array([row["vector"] for row in rows], np.float32)))
        data = pa.table(columns, schema=self.schema)
        with explained(self.db):
            self.table.merge_insert("path").when_matched_update_all().when_not_matched_insert_all().execute(data)

    def column(self, vectors: np.ndarray) -> Any:
        """Vectors as an Arrow array, in the store's precision."""
        import pyarrow as pa

        values = np.ascontiguousarray(vectors, self.schema.field("vector").type.value_type.to_pandas_dtype())
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), self.dim)

    def append(self, rows: Any) -> None:
        """Add the rows of an Arrow table, of paths that are not there yet; columns that it lacks stay empty."""
        with explained(self.db):
            self.table.add(rows)

    def shards(self) -> set[str]:
        """Names of the shards that rows are from."""
        found = set[str]()
        with explained(self.db):
            for batch in self.table.search().select(["shard"]).to_batches():
                found.update(batch.column("shard").unique().to_pylist())
        return found

    def touch(self, files: dict[str, FileRow]) -> None:
        """Note new sizes, times and labels of files whose content is as before."""
        for paths in _groups(files):
            rows = self.read(self.schema.names, _among(paths)).to_pylist()
            self.put([{**row, **files[row["path"]]._replace(sha256=row["sha256"])._asdict()} for row in rows])

    def remove(self, values: Iterable[str], column: str = "path") -> None:
        """Take rows out by path, or by another column of text."""
        for some in _groups(values):
            with explained(self.db):
                self.table.delete(_among(some, column))

    def tidy(self) -> None:
        """Bring many small commits together, and new rows into the vector index where there is one."""
        from datetime import timedelta

        with explained(self.db):
            self.table.optimize(cleanup_older_than=timedelta(hours=1))


@contextmanager
def explained(db: Path) -> Generator[None]:
    """Make one line of what LanceDB raises on a store that it cannot read or write.

    Raises:
        ValueError: the store is damaged.
        OSError: the disk is full, there is no permission, or LanceDB failed for a reason of its own.
    """
    try:
        with explained_disk(db, "choose another folder"):
            yield
    except (RuntimeError, ValueError) as error:
        said = str(error)
        if any(sign in said for sign in _DAMAGE):
            raise ValueError(
                f"{db}: the store is damaged ({brief(error)}); try once more, and if it stays so delete the folder and "
                "index again"
            ) from error
        if isinstance(error, ValueError):
            raise
        raise OSError(f"{db}: LanceDB failed: {brief(error)}; try once more") from error


def brief(error: BaseException) -> str:
    """What LanceDB says, without the place in its own source."""
    return str(error).removeprefix("lance error: ").split(", /")[0].split("\n")[0]


def _among(values: Iterable[str], column: str = "path") -> str:
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})"


def _schema(dim: int, in_shards: bool, is_half: bool) -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("path", pa.string()),
            ("sha256", pa.string()),
            ("size", pa.int64()),
            ("mtime_ns", pa.int64()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("label", pa.string()),
            *([("shard", pa.string())] if in_shards else ()),
            ("vector", pa.list_(pa.float16() if is_half else pa.float32(), dim)),
        ]
    )


def _groups(paths: Iterable[str]) -> Generator[list[str]]:
    remaining = iter(paths)
    while some := list(islice(remaining, _AT_ONCE)):
        yield some
