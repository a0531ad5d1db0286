"""Images that are there twice: copies, and near-copies that were recompressed, resized or slightly cropped."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float32, Int16, Int64
from PIL import Image

from convit.images import ImageError, open_image
from convit.search.listing import ListedImage

_SIDE = 32  # of the gray thumbnails, pixels
_FLAT = 1.0  # standard deviation in levels below which a thumbnail has no structure to correlate
_ROWS, _COLUMNS = 256, 16_384  # vectors compared with one another at once
_KEPT = 50_000  # thumbnails held at once, 2 KB each
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """What counts as a near-copy, and where it is looked for.

    Attributes:
        similarity: least cosine of the vectors, -1 to 1.
        difference: most mean absolute difference of the 32 x 32 gray thumbnails, 0 to 255 levels.
        correlation: least correlation of these thumbnails, -1 to 1: images of little contrast, such as two of jellyfish
            in blue water, differ by few levels whatever they show.
        splits: only pairs across two of these splits; None for all pairs.

    Raises:
        ValueError: a number is out of range.
    """

    similarity: float = 0.95
    difference: float = 12.0
    correlation: float = 0.85
    splits: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, least, most, unit in (
            ("similarity", -1, 1, "as it is a cosine"),
            ("difference", 0, 255, "levels"),
            ("correlation", -1, 1, ""),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"{name} is {value:g}, but must be {least} to {most} {unit}".rstrip())

    def check_splits(self, images: Sequence[ListedImage]) -> None:
        """Refuse splits that the images do not have.

        Raises:
            ValueError: a split is unknown, or there are not two.
        """
        there = sorted({image.split for image in images if image.split})
        if self.splits is not None and (len(set(self.splits)) < 2 or not set(self.splits) <= set(there)):
            raise ValueError(
                f"splits is {','.join(self.splits)!r}, but must be two or more of: {', '.join(there) or 'none here'}"
            )


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
    first: ListedImage
    second: ListedImage
    similarity: float
    difference: float

    @property
    def labels_differ(self) -> bool:
        """Whether at least one of the two is likely to be labeled wrongly; not told where one has no label."""
        return _known_to_differ(self.first.label, self.second.label)

    @property
    def across_splits(self) -> bool:
        """Whether the two belong to different splits, so that what is measured on one was seen in the other."""
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
    images: Sequence[ListedImage], vectors: Float32[np.ndarray, "images dim"], **criteria: Any
) -> list[Duplicate]:
    """Find copies and near-copies, as pairs that hold each group of them together.

    Identical files are found by their hash. Near-copies are images whose vectors are alike and whose gray thumbnails
    are too: the model alone takes images of one scene for the same. An image joins a group with the first of its images
    that it is a copy of, and is not paired with the others: a group of n images gives n - 1 pairs.

    Args:
        images: the images.
        vectors: their vectors, of length 1.
        **criteria: fields of `Criteria`.

    Returns:
        The pairs: different labels first, then across splits, then identical, then by difference. Images that cannot
        be read any more are logged and take no part.

    Raises:
        ValueError: an option is out of range, or a split is unknown.
    """
    wanted = Criteria(**criteria)
    wanted.check_splits(images)
    splits = wanted.splits
    groups = _Groups(len(images))
    thumbnail = lru_cache(maxsize=_KEPT)(partial(_thumbnail, images))
    found: list[Duplicate] = []
    same: dict[str, list[int]] = defaultdict(list)
    for at, image in enumerate(images):
        if splits is None or image.split in splits:
            same[image.sha256].append(at)
    alone: list[int] = []
    for first, *others in same.values():
        # with splits, one of each takes part in the search for near-copies
        alone += {images[at].split if splits else None: at for at in reversed((first, *others))}.values()
        for at in others:
            if not splits or images[at].split != images[first].split:
                groups.join(first, at)
                found.append(Duplicate("identical", images[first], images[at], float(vectors[first] @ vectors[at]), 0))
    for first, second, cosine in _candidates(images, vectors, sorted(alone), wanted, groups):
        one, other = thumbnail(first), thumbnail(second)
        if one is None or other is None:
            continue
        apart = float(np.abs(one - other).mean())
        if apart <= wanted.difference and _correlation(one, other) >= wanted.correlation:
            groups.join(first, second)
            found.append(Duplicate("near", images[first], images[second], cosine, apart))
    return sorted(found, key=lambda pair: (not pair.labels_differ, not pair.across_splits, pair.kind, pair.difference))


def _known_to_differ(one: str | None, other: str | None) -> bool:
    return one is not None and other is not None and one != other


class _Groups:
    """Which images are copies of one another, if only through others."""

    def __init__(self, count: int) -> None:
        self.of = np.arange(count)
        self._members: dict[int, list[int]] = {}

    def join(self, one: int, other: int) -> None:
        """Make one group of two; the smaller is renamed, so that many images cost little."""
        groups = (int(self.of[at]) for at in (one, other))
        small, large = sorted((self._members.pop(group, [group]) for group in groups), key=len)
        self.of[small] = self.of[large[0]]
        large += small
        self._members[int(self.of[large[0]])] = large


def _candidates(
    images: Sequence[ListedImage],
    vectors: Float32[np.ndarray, "images dim"],
    among: Sequence[int],
    wanted: Criteria,
    groups: _Groups,
) -> Iterator[tuple[int, int, float]]:
    """Pairs of images whose vectors are alike: all of them, or those across two splits."""
    if wanted.splits is None:
        yield from _alike(vectors, np.asarray(among, dtype=np.int64), None, wanted.similarity, groups)
        return
    members = [np.asarray([at for at in among if images[at].split == split], np.int64) for split in wanted.splits]
    for one, other in combinations(sorted(members, key=len), 2):
        for first, second, cosine in _alike(vectors, one, other, wanted.similarity, groups):
            yield min(first, second), max(first, second), cosine


def _alike(
    vectors: Float32[np.ndarray, "images dim"],
    some: Int64[np.ndarray, " some"],
    others: Int64[np.ndarray, " others"] | None,
    similarity: float,
    groups: _Groups,
) -> Iterator[tuple[int, int, float]]:
    """Pairs whose cosine reaches a threshold, block by block: neither the matrix nor a copy of the vectors need fit.

    Each of `some` with each of `others`; without `others`, each pair of `some` once. Pairs that are in one group when
    their turn comes are left out.
    """
    across = some if others is None else others
    for left in range(0, len(across), _COLUMNS):
        columns = across[left : left + _COLUMNS]
        # of each pair once, the blocks below the diagonal have nothing to add
        end = len(some) if others is not None else min(len(some), left + _COLUMNS)
        for start in range(0, end, _ROWS):
            cosines = vectors[some[start : start + _ROWS]] @ vectors[columns].T
            for row, first in enumerate(some[start : start + _ROWS].tolist()):
                after = 0 if others is not None else max(0, start + row + 1 - left)
                near = after + np.flatnonzero(cosines[row, after:] >= similarity)
                for column in near[groups.of[columns[near]] != groups.of[first]].tolist():
                    second = int(columns[column])
                    if groups.of[first] != groups.of[second]:
                        yield first, second, float(cosines[row, column])


def _thumbnail(images: Sequence[ListedImage], at: int) -> Int16[np.ndarray, "32 32"] | None:
    """The gray levels of one of these, small; None if it cannot be read any more, which is logged."""
    try:
        image = open_image(images[at].read()).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    except (ImageError, OSError) as error:
        _log.warning("%s cannot be compared any more: %s", images[at].place, error)
        return None
    return np.asarray(image, dtype=np.int16)


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; 1 if one of the two is a flat area, which has no structure."""
    return 1.0 if min(one.std(), other.std()) < _FLAT else float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
