"""Images that are there twice: copies, and near-copies that were recompressed, resized or slightly cropped."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from PIL import Image

from convit.images.formats import ImageError
from convit.images.opening import open_image

SIMILARITY = 0.95
DIFFERENCE = 12.0
CORRELATION = 0.85
_SIDE = 32  # of the gray thumbnails, pixels
_FLAT = 1.0  # standard deviation in levels below which a thumbnail has no structure to correlate
_ROWS, _COLUMNS = 256, 16_384  # vectors compared with one another at once
_KEPT = 50_000  # thumbnails held at once, 2 KB each
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Picture:
    """One image among which duplicates are sought.

    Attributes:
        name: its path or key.
        label: its class; None where it has none.
        split: the part of the data set that it belongs to; None where there are no parts.
        sha256: of its file.
        read: gives the file's bytes; called for images whose vectors are alike.
    """

    name: str
    label: str | None
    split: str | None
    sha256: str
    read: Callable[[], bytes]

    @property
    def place(self) -> str:
        """Its name with its split in front, where the name does not say it already."""
        told = self.split is None or self.name.startswith(f"{self.split}/")
        return self.name if told else f"{self.split}/{self.name}"


@dataclass(frozen=True)
class Duplicate:
    """Two images that are the same or nearly so.

    Attributes:
        kind: "identical" - the same file byte for byte; "near" - alike to the model and pixel by pixel.
        first, second: the images, in the order in which they were given.
        similarity: cosine of their vectors, -1 to 1.
        difference: mean absolute difference of their 32 x 32 gray thumbnails, 0 to 255 levels.
    """

    kind: str
    first: Picture
    second: Picture
    similarity: float
    difference: float

    @property
    def labels_differ(self) -> bool:
        """Whether at least one of the two is likely to be labeled wrongly; not told where one has no label."""
        return _known_to_differ(self.first.label, self.second.label)

    @property
    def across_splits(self) -> bool:
        """Whether the two belong to different splits, so that what is measured on one was seen in the other.

        Not told where one belongs to none.
        """
        return _known_to_differ(self.first.split, self.second.split)

    def as_row(self) -> dict[str, Any]:
        """Its plain values, for files."""
        return {
            "kind": self.kind,
            "first": self.first.name,
            "second": self.second.name,
            "first_label": self.first.label,
            "second_label": self.second.label,
            "labels_differ": self.labels_differ,
            "first_split": self.first.split,
            "second_split": self.second.split,
            "across_splits": self.across_splits,
            "similarity": round(self.similarity, 4),
            "difference": round(self.difference, 2),
        }


def find_duplicates(
    images: Sequence[Picture],
    vectors: Float32[np.ndarray, "images dim"],
    *,
    similarity: float = SIMILARITY,
    difference: float = DIFFERENCE,
    correlation: float = CORRELATION,
    splits: tuple[str, ...] | None = None,
) -> list[Duplicate]:
    """Find pairs of copies and near-copies.

    Identical files are found by their hash. Of the others those pairs are kept whose vectors are alike and whose gray
    thumbnails are too: the model alone takes images of one scene for the same. Of several identical files each is
    paired with the first of them, and the first alone is compared with other images.

    Args:
        images: the images.
        vectors: their vectors, of length 1.
        similarity: least cosine of near-copies, -1 to 1.
        difference: most mean absolute difference of their 32 x 32 gray thumbnails, 0 to 255 levels.
        correlation: least correlation of these thumbnails, -1 to 1: images of little contrast, such as two of
            jellyfish in blue water, differ by few levels whatever they show.
        splits: only pairs across two of these splits; None for all pairs.

    Returns:
        The pairs: different labels first, then across splits, then identical, then by difference. Images that cannot
        be read any more are logged and take no part.

    Raises:
        ValueError: an option is out of range, or a split is unknown.
    """
    check_criteria(images, similarity=similarity, difference=difference, correlation=correlation, splits=splits)
    wanted = [at for at, picture in enumerate(images) if splits is None or picture.split in splits]
    thumbnails = _Thumbnails(images)
    found: list[Duplicate] = []
    alone: list[int] = []
    for same in _groups(images, wanted):
        # with splits, one of each takes part in the search for near-copies
        alone += {images[at].split if splits else None: at for at in reversed(same)}.values()
        for at in same[1:]:
            if not splits or images[at].split != images[same[0]].split:
                cosine = float(vectors[same[0]] @ vectors[at])
                found.append(Duplicate("identical", images[same[0]], images[at], cosine, 0.0))
    for first, second, cosine in _candidates(images, vectors, sorted(alone), similarity, splits):
        one, other = images[first], images[second]
        if one.sha256 == other.sha256:
            continue
        apart = thumbnails.difference(first, second)
        if apart is not None and apart <= difference and thumbnails.correlation(first, second) >= correlation:
            found.append(Duplicate("near", one, other, cosine, apart))
    return sorted(found, key=lambda pair: (not pair.labels_differ, not pair.across_splits, pair.kind, pair.difference))


def check_criteria(
    images: Sequence[Picture],
    *,
    similarity: float = SIMILARITY,
    difference: float = DIFFERENCE,
    correlation: float = CORRELATION,
    splits: tuple[str, ...] | None = None,
) -> None:
    """Refuse what `find_duplicates` would refuse; call it before the images are embedded.

    Args:
        images: the images, whose splits are looked at.
        similarity: as for `find_duplicates`, like the others.
        difference: levels.
        correlation: of thumbnails.
        splits: names, or None.

    Raises:
        ValueError: an option is out of range, or a split is unknown.
    """
    if not -1 <= similarity <= 1:
        raise ValueError(f"similarity is {similarity:g}, but is a cosine: -1 to 1")
    if not 0 <= difference <= 255:
        raise ValueError(f"difference is {difference:g}, but must be 0 to 255 levels")
    if not -1 <= correlation <= 1:
        raise ValueError(f"correlation is {correlation:g}, but must be -1 to 1")
    if splits is None:
        return
    there = sorted({picture.split for picture in images if picture.split})
    if len(set(splits)) < 2 or not set(splits) <= set(there):
        raise ValueError(
            f"splits is {','.join(splits)!r}, but must be two or more of: {', '.join(there) or 'none here'}"
        )


def _known_to_differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


def _groups(images: Sequence[Picture], wanted: Sequence[int]) -> list[list[int]]:
    """Images with the same content, together; most stand alone."""
    same: dict[str, list[int]] = defaultdict(list)
    for at in wanted:
        same[images[at].sha256].append(at)
    return list(same.values())


def _candidates(
    images: Sequence[Picture],
    vectors: Float32[np.ndarray, "images dim"],
    among: Sequence[int],
    similarity: float,
    splits: tuple[str, ...] | None,
) -> Iterator[tuple[int, int, float]]:
    """Pairs of images whose vectors are alike: all of them, or those across two splits."""
    if splits is None:
        yield from _alike(vectors, np.asarray(among, dtype=np.int64), None, similarity)
        return
    members = [np.asarray([at for at in among if images[at].split == split], dtype=np.int64) for split in splits]
    for one, other in combinations(sorted(members, key=len), 2):
        for first, second, cosine in _alike(vectors, one, other, similarity):
            yield min(first, second), max(first, second), cosine


def _alike(
    vectors: Float32[np.ndarray, "images dim"],
    some: Int64[np.ndarray, " some"],
    others: Int64[np.ndarray, " others"] | None,
    similarity: float,
) -> Iterator[tuple[int, int, float]]:
    """Pairs whose cosine reaches a threshold, block by block: neither the matrix nor a copy of the vectors need fit.

    Each of `some` with each of `others`; without `others`, each pair of `some` once.
    """
    across = some if others is None else others
    for left in range(0, len(across), _COLUMNS):
        columns = vectors[across[left : left + _COLUMNS]]
        # of each pair once, the blocks below the diagonal have nothing to add
        end = len(some) if others is not None else min(len(some), left + _COLUMNS)
        for start in range(0, end, _ROWS):
            cosines = vectors[some[start : start + _ROWS]] @ columns.T
            found = np.argwhere(cosines >= similarity)
            if others is None:
                found = found[left + found[:, 1] > start + found[:, 0]]
            for row, column in found.tolist():
                yield int(some[start + row]), int(across[left + column]), float(cosines[row, column])


class _Thumbnails:
    """Gray thumbnails, made when they are asked for; the latest are kept."""

    def __init__(self, images: Sequence[Picture]) -> None:
        self._pictures = images
        self._made: dict[int, np.ndarray | None] = {}

    def difference(self, first: int, second: int) -> float | None:
        """Mean absolute difference in levels; None where one of the two cannot be read."""
        one, other = self._of(first), self._of(second)
        return None if one is None or other is None else float(np.abs(one - other).mean())

    def correlation(self, first: int, second: int) -> float:
        """Pearson's, of two that can be read; 1 where one of them is a flat area, which has no structure."""
        one, other = (np.ravel(each) for each in (self._of(first), self._of(second)) if each is not None)
        return 1.0 if min(one.std(), other.std()) < _FLAT else float(np.corrcoef(one, other)[0, 1])

    def _of(self, at: int) -> np.ndarray | None:
        made = self._made.pop(at) if at in self._made else self._make(self._pictures[at])
        self._made[at] = made  # as the latest
        if len(self._made) > _KEPT:
            del self._made[next(iter(self._made))]
        return made

    def _make(self, picture: Picture) -> np.ndarray | None:
        try:
            image = open_image(picture.read()).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
        except (ImageError, OSError) as error:
            _log.warning("%s cannot be compared any more: %s", picture.place, error)
            return None
        return np.asarray(image, dtype=np.int16)


def hash_of(content: bytes) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
