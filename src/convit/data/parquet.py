"""Parquet files of encoded images and labels, as the Hugging Face hub keeps them."""

from __future__ import annotations

import bisect
import hashlib
import json
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from convit.data.classes import named, number_labels
from convit.data.identity import identity_of_files
from convit.data.locate import Source, file_names, find_files
from convit.data.remote import read_remote
from convit.data.samples import Rows, Samples
from convit.images.lists import LABEL_NAMES, choose_column
from convit.images.names import shown
from convit.images.opening import NamedBytes
from convit.output.files import hash_file

IN_MEMORY = 4 << 30  # bytes of encoded images up to which all of them are held
KEPT_GROUPS = 8  # row groups that each process keeps of larger sets

# what columns of images are called, the likeliest first
IMAGE_NAMES = ("image", "img", "images", "jpg", "jpeg", "png", "webp", "picture", "pixelvalues")


class ParquetSamples(Samples):
    """Images and labels of some Parquet files, in the order of the files.

    Labels are held in memory. So are encoded images, up to 4 GB; of larger sets the files' row groups are read when one
    of their images is asked for, which is quick with the hub's row groups of some hundred images and slow with larger.

    Args:
        files: Parquet files with a column of images (bytes, or the hub's {bytes, path}) and one of labels (whole
            numbers, or names, whose sorted distinct values are then the classes). Columns are found by the hub's notes
            in the file or by name.
        in_memory: whether all encoded images are held, where they have up to 4 GB.
        needs_label: whether there must be labels; without them each is -1.
        reads_labels: whether labels are read where there are some.

    Raises:
        FileNotFoundError, ValueError: as `convit.data.open_samples`.
    """

    kind = "parquet"

    def __init__(
        self,
        files: Sequence[Path | str],
        *,
        in_memory: bool = True,
        needs_label: bool = True,
        reads_labels: bool = True,
    ) -> None:
        self.files = list(files)
        self._file_names = file_names(files)
        # a remote file is fetched whole; one here is mapped
        self._contents = [file if isinstance(file, Path) else pa.py_buffer(read_remote(file)) for file in self.files]
        self._metadata: list[Any] = []
        features, label = dict[str, Any](), None
        columns: list[pa.ChunkedArray] = []
        for number, file in enumerate(self.files):
            with self._opened(number) as opened:
                self._metadata.append(opened.metadata)
                schema = opened.metadata.schema.to_arrow_schema()
                if number == 0:
                    features = hub_features(schema)
                    needs_label = needs_label and reads_labels
                    self._image, label = choose_columns(schema, features, shown(file), needs_label=needs_label)
                    label = label if reads_labels else None
                if not {self._image, label or self._image} <= set(schema.names):
                    wanted = f"{self._image!r} and {label!r} of {shown(self.files[0])}"
                    raise ValueError(f"{shown(file)} lacks the columns {wanted}; read files of one kind together")
                if label is not None:
                    columns.append(opened.read(columns=[label], use_threads=False).column(label))
                    self._check(columns[-1], opened.metadata.num_rows)
        # (file, row group) of every row group, in order
        counts = [metadata.num_row_groups for metadata in self._metadata]
        self._groups = [(number, group) for number, count in enumerate(counts) for group in range(count)]
        groups = [self._metadata[number].row_group(group) for number, group in self._groups]
        self._ends = list(accumulate(group.num_rows for group in groups))
        self._file_ends = list(accumulate(metadata.num_rows for metadata in self._metadata))
        source = shown(self.files[0]) if len(self.files) == 1 else f"{shown(self.files[0])} …"
        if not self._ends or not self._ends[-1]:
            raise ValueError(f"{source} has no row; give files with images")
        labels, classes = [-1] * self._ends[-1], None
        if label is not None:
            labels, classes = read_labels(_joined(columns), features.get(label), source)
        super().__init__(labels, Rows(len(labels), self.name), named(classes), f"the label column of {source}")
        self._kept: OrderedDict[int, Any] = OrderedDict()
        # of all columns, since asking damaged metadata for one may abort the process
        self._keep_all = in_memory and sum(group.total_byte_size for group in groups) <= IN_MEMORY
        if self._keep_all:
            # in this process, so that workers share what it holds
            for index in range(len(self._groups)):
                self._row_group(index)
            self._contents.clear()

    def stored(self, index: int) -> bytes:
        """The encoded image; none, with a reason, where the row only names a file."""
        group, row = self.place(index)
        value = self._row_group(group)[row].as_py()
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if path and not data:
            reason = f"names the file {path} and does not hold it; write images into the Parquet file as bytes"
            return NamedBytes(reason=reason)
        return data or b""

    def place(self, index: int) -> tuple[int, int]:
        """(row group counted over all files, row within it) of a sample."""
        group = bisect.bisect_right(self._ends, index)
        return group, index - (self._ends[group - 1] if group else 0)

    def name(self, index: int) -> str:
        """File and row of a sample."""
        file = bisect.bisect_right(self._file_ends, index)
        return f"{self._file_names[file]} row {index - (self._file_ends[file - 1] if file else 0)}"

    def identity(self) -> dict[str, Any]:
        """Name and sha256 of each file, and of them all: the file's own where there is one, else over their list."""
        return identity_of_files(self.kind, list(zip(self._file_names, map(self._sha256, self.files), strict=True)))

    def _sha256(self, file: Path | str) -> str:
        if isinstance(file, Path):
            return hash_file(file)
        content: Any = self._contents[self.files.index(file)] if self._contents else read_remote(file)
        return hashlib.sha256(content).hexdigest()

    def _row_group(self, index: int) -> Any:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        file, group = self._groups[index]
        with self._opened(file, self._metadata[file]) as opened:
            images = opened.read_row_group(group, columns=[self._image], use_threads=False).column(self._image)
            self._check(images, self._ends[index] - (self._ends[index - 1] if index else 0))
        # one chunk, so that a row is found at once
        self._kept[index] = images.combine_chunks()
        while not self._keep_all and len(self._kept) > KEPT_GROUPS:
            self._kept.popitem(last=False)
        return self._kept[index]

    def _check(self, column: pa.ChunkedArray, rows: int) -> None:
        column.validate(full=True)
        if len(column) != rows:
            raise pa.ArrowInvalid(f"it states {rows} rows and holds {len(column)}")

    @contextmanager
    def _opened(self, number: int, metadata: Any = None) -> Generator[pq.ParquetFile]:
        # for each reading anew: nothing of it need survive the start of a worker process
        content = self._contents[number]
        source = content if isinstance(content, Path) else pa.BufferReader(content)
        try:
            with pq.ParquetFile(source, metadata=metadata, memory_map=isinstance(content, Path)) as opened:
                yield opened
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of damaged names
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{shown(self.files[number])} cannot be read as Parquet ({reason}); fetch or write it again"
            ) from error


def open_source(source: Source, *, root: str | Path | None, split: str | None, in_memory: bool) -> Samples:
    """Open Parquet files; see `ParquetSamples`."""
    return ParquetSamples(find_files(source, root, "parquet"), in_memory=in_memory)


def hub_features(schema: pa.Schema) -> dict[str, Any]:
    """What the `datasets` library noted of the columns when it wrote a file; nothing where it did not, or not so."""
    try:
        noted: Any = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features: dict[str, Any] = dict(noted["info"]["features"])
    except (KeyError, RecursionError, TypeError, ValueError):
        return {}
    return {name: feature for name, feature in features.items() if _is_feature(feature)}


def _is_feature(noted: Any) -> bool:
    names = noted.get("names") if isinstance(noted, dict) else ()
    return names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))


def _joined(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    kind = columns[0].type
    if pa.types.is_dictionary(kind):  # every file has a dictionary of its own
        kind = kind.value_type
    return pa.chunked_array([chunk for column in columns for chunk in column.cast(kind).chunks], kind)


def choose_columns(
    schema: pa.Schema, features: Mapping[str, Any], source: object, *, needs_label: bool = True
) -> tuple[str, str | None]:
    """The (image, label) columns of a table.

    Args:
        schema: names and types of the columns.
        features: what the `datasets` library notes of columns: "_type" is "Image" or "ClassLabel" for ours.
        source: file or set, for messages.
        needs_label: whether there must be labels; else the column may be None.

    Raises:
        ValueError: the table has no such column, or several that could be meant; the message names those found.
    """
    images = [field.name for field in schema if _holds_images(field.type)]
    labels = [field.name for field in schema if _holds_labels(field.type)]
    image = _choose(images, IMAGE_NAMES, features, "Image")
    label = _choose(labels, LABEL_NAMES, features, "ClassLabel")
    if image is None and len(images) == 1:
        image = images[0]
    found = ", ".join(
        f"{field.name} ({'struct' if pa.types.is_struct(field.type) else field.type})" for field in schema
    )
    if image is None:
        raise ValueError(
            f"{source} has no image column among {found}; name one 'image', of bytes or of {{bytes, path}}"
        )
    if label is None and needs_label:
        raise ValueError(f"{source} has no label column among {found}; name one 'label', of whole numbers or of names")
    return image, label


def read_labels(
    column: pa.ChunkedArray | pa.Array, feature: Any, source: object
) -> tuple[list[int], tuple[str, ...] | None]:
    """Class indices of a label column, and the class names where they are known.

    Args:
        column: whole numbers, or names; see `number_labels`.
        feature: what the `datasets` library notes of the column; a ClassLabel holds "names".
        source: file or set, for messages.

    Raises:
        ValueError: a label is missing.
    """
    if column.null_count:
        row = int(np.flatnonzero(np.asarray(column.is_null()))[0])
        raise ValueError(f"{source} has no label in row {row}; fill it or remove the row")
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    names = tuple(str(name) for name in (feature or {}).get("names") or ())
    is_number = pa.types.is_integer(column.type)
    return (column.to_pylist(), names) if names and is_number else number_labels(column.to_pylist())


def _choose(fitting: Sequence[str], likely: Sequence[str], features: Mapping[str, Any], mark: str) -> str | None:
    # what the hub's notes mark is surest; of several, or of none, the name decides
    marked = [
        name for name in fitting if isinstance(features.get(name), Mapping) and features[name].get("_type") == mark
    ]
    if len(marked) == 1:
        return marked[0]
    found = choose_column(marked or fitting, likely)
    return None if found is None else (marked or fitting)[found]


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(index).name == "bytes" for index in range(kind.num_fields))
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _holds_labels(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_integer(value) or pa.types.is_string(value) or pa.types.is_large_string(value)
