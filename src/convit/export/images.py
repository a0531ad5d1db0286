"""The images that an export is compared on: the user's own, or smooth color fields where none are given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from convit.data import evenly_spaced, open_samples
from convit.evaluation.matching import match_classes, own_names
from convit.images import find_images, open_image
from convit.images.lists import split_list
from convit.images.names import shown
from convit.model import ConViT
from convit.transforms import EvaluationTransform, TransformSettings

Pixels = UInt8[np.ndarray, "batch height width channels"]

RANGES, CHECKED = 64, 1000
"""Images that give the ranges of int8, and at most that many others that measure what it costs."""


@dataclass(frozen=True)
class ProofImages:
    """Images that are opened when they are read.

    Attributes:
        open: opens the images at ascending places.
        count: how many there are.
        read: where they come from, as it is told.
        are_given: whether they are the user's.
        labels: the model's class of each; empty if unknown.
    """

    open: Callable[[Sequence[int]], Iterator[Image.Image]]
    count: int
    read: str
    are_given: bool = True
    labels: Sequence[int] = ()

    @property
    def ranges(self) -> list[int]:
        """Places of those that give ranges: at most a quarter of them."""
        return evenly_spaced(min(RANGES, max(1, self.count // 4)), self.count)

    @property
    def checked(self) -> list[int]:
        """Places of others, from all over."""
        kept = set(self.ranges)
        others = [place for place in range(self.count) if place not in kept]
        return [others[each] for each in evenly_spaced(CHECKED, len(others))] if others else []

    def batches(self, places: Sequence[int], transform: TransformSettings, batch: int) -> Iterator[Pixels]:
        """The images at these places, prepared, so many at a time."""
        prepared = map(EvaluationTransform(transform).to_pixels, self.open(places))
        while pixels := list(islice(prepared, batch)):
            yield np.stack(pixels)

    def for_ranges(self, transform: TransformSettings) -> Pixels:
        """Those that give ranges, as one batch."""
        return np.concatenate(list(self.batches(self.ranges, transform, RANGES)))

    def batch(self, batch: int, transform: TransformSettings) -> Pixels:
        """One batch, from all over the images; where there are fewer, they come again."""
        (found,) = self.batches(evenly_spaced(min(batch, self.count), self.count), transform, batch)
        return np.resize(found, (batch, *found.shape[1:]))


def smooth_images(count: int = 8) -> ProofImages:
    """Color fields drawn from a fixed seed, 320 x 256 pixels: nearer to photographs than noise is."""
    fields = np.random.default_rng(0).integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)

    def open_fields(places: Sequence[int]) -> Iterator[Image.Image]:
        return (Image.fromarray(fields[place]).resize((320, 256), Image.Resampling.BICUBIC) for place in places)

    return ProofImages(open_fields, count, f"{count} smooth color fields, drawn from a fixed seed", are_given=False)


def read_images(data: str, model: ConViT) -> ProofImages:
    """The images of labeled data, or of a folder or list of images.

    Labels are known where the data's classes are the model's by the rules of `convit.evaluation.match_classes`.

    Raises:
        FileNotFoundError, ValueError, ImportError: as `convit.data.open_samples` and `convit.images.find_images`.
    """
    place = split_list(data)[0]
    try:
        samples = open_samples(data)
    except (ValueError, FileNotFoundError):
        if not Path(place).exists():
            raise
        files = find_images(data)
        return ProofImages(lambda places: map(open_image, (files[each] for each in places)), len(files), place)
    labels: list[int] = []
    if model.num_classes:
        with suppress(ValueError):  # classes of another kind
            matched = match_classes(samples, own_names(model), model.num_classes)
            labels = [matched[label] for label in samples.labels]

    def open_samples_at(places: Sequence[int]) -> Iterator[Image.Image]:
        return (open_image(each.source) for each in samples.take(places))

    return ProofImages(open_samples_at, len(samples), shown(place), labels=labels)
