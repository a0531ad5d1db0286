"""Results, and how they look as rows: the same values in every format.

Each kind of rows names the `columns` of flat rows, the `heads` of a table for people and which of these stand at the
right, and gives a row as an object for JSON, as values and as cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from convit.images.names import escaped


@dataclass(frozen=True)
class Prediction:
    """One class that an image may show.

    Attributes:
        label: the class's name.
        index: its place in the model's head, from 0.
        score: its probability (softmax over all classes), 0 to 1.
    """

    label: str
    index: int
    score: float


@dataclass(frozen=True)
class Classification:
    """What a `Classifier` says of one image.

    Attributes:
        path: the image's path, or what it is instead ("<bytes>", "<array>", "<image>").
        predictions: the likeliest classes, best first; empty if the image could not be read.
        error: one line that says what is wrong, `None` where all went well.
    """

    path: str
    predictions: tuple[Prediction, ...]
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Embedding:
    """What an `Embedder` says of one image.

    Attributes:
        path: the image's path, or what it is instead ("<bytes>", "<array>", "<image>").
        values: (dim,) or (tokens, dim); `None` where the image could not be read.
        error: one line that says what is wrong, `None` where all went well.
    """

    path: str
    values: Float32[np.ndarray, "*tokens dim"] | None
    error: str | None = None


@dataclass(frozen=True)
class Timings:
    """Where the time of a run went.

    Attributes:
        images: images done, the unreadable ones included.
        failed: images without a result.
        seconds: from the first image asked for to the last result taken.
        waiting_seconds: the part of it in which the model stood still because no image was decoded yet.

    >>> print(Timings(images=24, failed=1, seconds=3.1, waiting_seconds=0.07))
    24 images (1 failed) in 3.1 s, 7.7 images/s, waited for data 2.3 % of the time
    """

    images: int = 0
    failed: int = 0
    seconds: float = 0.0
    waiting_seconds: float = 0.0

    @property
    def waiting_share(self) -> float:
        """Part of the time spent waiting for images, 0 to 1."""
        return self.waiting_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def images_per_second(self) -> float:
        """Images done per second."""
        return self.images / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        failed = f" ({self.failed} failed)" if self.failed else ""
        return (
            f"{self.images} image{'' if self.images == 1 else 's'}{failed} in {self.seconds:.1f} s, "
            f"{self.images_per_second:.1f} images/s, waited for data {100 * self.waiting_share:.1f} % of the time"
        )


_SHOWN_VALUES = 4


@dataclass(frozen=True)
class Classifications:
    """Path, then label, index and score of `top_k` classes, by rank from 1, then error.

    >>> Classifications(1).columns
    ['path', 'label_1', 'index_1', 'score_1', 'error']
    """

    top_k: int
    heads, right = ("image", "score", "label"), (1,)

    @property
    def columns(self) -> list[str]:
        """Three per rank, between path and error."""
        ranks = [f"{part}_{rank}" for rank in range(1, self.top_k + 1) for part in ("label", "index", "score")]
        return ["path", *ranks, "error"]

    def as_object(self, row: Classification) -> dict[str, Any]:
        """With the classes as a list under "predictions"."""
        found = [{"label": each.label, "index": each.index, "score": shorten(each.score)} for each in row.predictions]
        return {"path": row.path, "predictions": found, "error": row.error}

    def as_values(self, row: Classification) -> list[Any]:
        """One after another; `None` for ranks that there are not."""
        values: list[Any] = [row.path]
        for found in row.predictions[: self.top_k]:
            values += [found.label, found.index, shorten(found.score)]
        return [*values, *[None] * (1 + 3 * self.top_k - len(values)), row.error]

    def as_cells(self, row: Classification) -> Sequence[str]:
        """One line per class."""
        if row.error is not None:
            return escaped(row.path), "", _problem(row)
        scores = "\n".join(f"{100 * found.score:.1f} %" for found in row.predictions)
        return escaped(row.path), scores, "\n".join(escaped(found.label) for found in row.predictions)

    def schema(self) -> Any:
        """Labels as text, indices as int32, scores as float32."""
        import pyarrow as pa

        kinds = {"label": pa.string(), "index": pa.int32(), "score": pa.float32()}
        return pa.schema([(name, kinds.get(name.partition("_")[0], pa.string())) for name in self.columns])


@dataclass(frozen=True)
class Embeddings:
    """Path, then the vector, then error; `shape` is that of one, None if the format need not know it."""

    shape: tuple[int, ...] | None
    heads, right = ("image", "shape", "length", "values"), (2,)

    @property
    def columns(self) -> list[str]:
        """A column per dimension.

        Raises:
            ValueError: there is more than one vector per image.
        """
        if self.shape is None or len(self.shape) != 1:
            shown = " x ".join(map(str, self.shape or ()))
            raise ValueError(f"csv holds one vector per image, but these are {shown}; use parquet, npz or jsonl")
        return ["path", *(f"value_{index}" for index in range(self.shape[0])), "error"]

    def as_object(self, row: Embedding) -> dict[str, Any]:
        """With the vector, or one per token, as a list."""
        values = None if row.values is None else row.values.astype(np.float32).astype(str).astype(np.float64).tolist()
        return {"path": row.path, "embedding": values, "error": row.error}

    def as_values(self, row: Embedding) -> list[Any]:
        """One value per dimension."""
        values = [None] * (self.shape or (0,))[0] if row.values is None else map(shorten, row.values.tolist())
        return [row.path, *values, row.error]

    def as_cells(self, row: Embedding) -> Sequence[str]:
        """Shape, length and the first values."""
        if row.error is not None or row.values is None:
            return escaped(row.path), "", "", _problem(row)
        shown = ", ".join(f"{value:.4f}" for value in row.values.ravel()[:_SHOWN_VALUES])
        length = f"{np.linalg.norm(row.values):.4g}" if row.values.ndim == 1 else ""
        more = ", …" if row.values.size > _SHOWN_VALUES else ""
        return escaped(row.path), " x ".join(map(str, row.values.shape)), length, shown + more

    def schema(self) -> Any:
        """The vector as a list of fixed size, or a list of these per token."""
        import pyarrow as pa

        kind = pa.float32()
        for length in reversed(self.shape or ()):
            kind = pa.list_(kind, length)
        return pa.schema([("path", pa.string()), ("embedding", kind), ("error", pa.string())])


class PlainRows:
    """Dictionaries with the same keys: `columns`, in the order that flat rows have."""

    right = ()

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)
        self.heads = [name.replace("_", " ") for name in columns]

    def as_object(self, row: dict[str, Any]) -> dict[str, Any]:
        """As it is."""
        return row

    def as_values(self, row: dict[str, Any]) -> list[Any]:
        """In the order of the columns."""
        return [row[name] for name in self.columns]

    def as_cells(self, row: dict[str, Any]) -> list[str]:
        """Yes or no, short numbers, and nothing for `None`."""
        return [_cell(value) for value in self.as_values(row)]

    def schema(self) -> Any:
        """As the values are."""


Layout = Classifications | Embeddings | PlainRows


def shorten(number: float) -> float:
    """Return the shortest decimal that is the same float32.

    >>> shorten(float(np.float32(0.1)))
    0.1
    """
    return float(str(np.float32(number)))


def _problem(row: Classification | Embedding) -> str:
    return "" if row.error is None else f"error: {escaped(row.error).removeprefix(f'{escaped(row.path)}: ')}"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:g}" if isinstance(value, float) else escaped(str(value))
