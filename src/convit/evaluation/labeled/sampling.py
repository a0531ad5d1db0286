"""Some images of a data set, so chosen that every class has its share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from convit.evaluation.labeled.images import ClassName, LabeledImage, LabeledImages, checked_places


def evenly_spaced(count: int, of: int) -> list[int]:
    """Choose places at even distances: in data that are sorted by class every class has its share.

    Args:
        count: how many to choose; all where there are fewer.
        of: how many there are.

    Returns:
        Ascending places, from 0.

    Raises:
        ValueError: `count` is below 1.

    >>> evenly_spaced(3, 9)
    [0, 3, 6]
    """
    if count < 1:
        raise ValueError(f"the limit is {count}, but must be at least 1 image")
    chosen = min(count, of)
    return [number * of // chosen for number in range(chosen)]


class EvenlySpaced:
    """`count` images of a data set at even distances.

    Args:
        images: the data set.
        count: how many; all of them where it has fewer.

    Raises:
        ValueError: `count` is below 1.
    """

    def __init__(self, images: LabeledImages, count: int) -> None:
        self._images = images
        self._places = evenly_spaced(count, images.count)
        self.kind: str = images.kind
        self.count = len(self._places)
        self.labels: Sequence[int] = images.labels
        self.classes: Sequence[ClassName] | None = images.classes
        self.source = images.source
        self.restricted = images.restricted
        self.competing: Sequence[int] = images.competing

    def __iter__(self) -> Iterator[LabeledImage]:
        """Read the chosen images, in order, and no others where the storage allows it."""
        return self._images.take(self._places)

    def take(self, places: Sequence[int]) -> Iterator[LabeledImage]:
        """Read some of the chosen images; places count among these.

        Raises:
            ValueError: a place is out of range, or not above the one before it.
        """
        return self._images.take([self._places[place] for place in checked_places(places, self.count)])

    def identity(self) -> dict[str, Any]:
        """What the whole data set is, and how many of its images were taken."""
        return self._images.identity() | {"evenly_spaced": self.count}
