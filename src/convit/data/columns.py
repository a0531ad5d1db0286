"""Tables of images: which columns hold images and labels, and what the labels mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from convit.images.lists import LABEL_NAMES, choose_column

# what columns of images are called, the likeliest first
IMAGE_NAMES = ("image", "img", "images", "jpg", "jpeg", "png", "webp", "picture", "pixelvalues")


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
        ValueError: there is no such column, or more than one could be meant; the message names those found.
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


def number_labels(values: Sequence[int] | Sequence[str]) -> tuple[list[int], tuple[str, ...] | None]:
    """Class indices of labels, and the class names: the distinct labels, sorted; None if these are 0, 1, 2 and on.

    Negative numbers stay as they are, to be refused where they are looked at.

    >>> number_labels([900, 5, 70, 5]), number_labels([1, 0]), number_labels(["cat", "ant"])
    (([2, 0, 1, 0], ('5', '70', '900')), ([1, 0], None), ([1, 0], ('ant', 'cat')))
    """
    distinct: list[Any] = sorted(set(values))
    are_numbers = distinct == list(range(len(distinct)))
    if are_numbers or (isinstance(distinct[0], int) and distinct[0] < 0):
        return [int(value) for value in values], None
    place = {label: index for index, label in enumerate(distinct)}
    return [place[value] for value in values], tuple(map(str, distinct))


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
