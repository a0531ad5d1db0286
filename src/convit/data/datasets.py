"""Data sets that PyTorch's loaders take: decoded, transformed, with labels; and parts of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from convit.data.corrupt import CorruptImages, read_or_report
from convit.data.locate import Source
from convit.data.opening import open_samples
from convit.data.samples import Samples, Stored
from convit.images.limits import IN_FLIGHT
from convit.transforms import create_transform as create_transform  # where timm's users look for them
from convit.transforms import resolve_data_config as resolve_data_config
from convit.transforms import resolve_model_data_config as resolve_model_data_config

Transform = Callable[[Any], Any]


class ImageDataset(Dataset[tuple[Any, int]]):
    """Images and labels by index, decoded to RGB and transformed.

    Args:
        samples: encoded images with labels.
        transform: takes a PIL image; without it the PIL image itself is given.
        indices: the samples that belong to this data set, in this order; all without it.
        classes: class names, where known.
        corrupt: takes note of images that cannot be read; each gives its place to another of its class. Without it
            they are errors.
    """

    def __init__(
        self,
        samples: Samples,
        transform: Transform | None = None,
        *,
        indices: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        corrupt: CorruptImages | None = None,
    ) -> None:
        self.samples, self.transform, self.corrupt = samples, transform, corrupt
        self.indices = range(len(samples)) if indices is None else indices
        self.classes = tuple(classes) if classes is not None else None
        self._same_class: dict[int, list[int]] | None = None  # class → its indices, once an image was unreadable

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Any, int]:
        """(transformed image, class index) of an index, or of (index, augmentation seed): see `apply_seeded`.

        Raises:
            TooManyCorruptError: more images cannot be read than `corrupt` allows.
            ValueError: the image cannot be read, and there is no `corrupt` or no other image of its class.
        """
        index, seed = key if isinstance(key, tuple) else (key, None)
        with IN_FLIGHT.until_scaled():
            image: Any = self._image(index)
            if self.transform is not None:
                image = self.transform(image) if seed is None else apply_seeded(self.transform, image, seed)
        return image, self.label(index)

    def label(self, index: int) -> int:
        """The class index of a sample, without reading its image."""
        return self.samples.labels[self.indices[index]]

    def _image(self, index: int) -> Any:
        """The image, or the next of its class in this data set that can be read, beginning anew after the last."""
        image = self._read(index)
        if image is not None:
            return image
        if self._same_class is None:
            self._same_class = {}
            for number in range(len(self)):
                self._same_class.setdefault(self.label(number), []).append(number)
        same_class = self._same_class[self.label(index)]
        here = same_class.index(index % len(self))
        for other in same_class[here + 1 :] + same_class[:here]:
            image = self._read(other)
            if image is not None:
                return image
        assert self.corrupt is not None
        raise ValueError(
            f"{self.class_title(self.label(index))} has no readable image (all {len(same_class)} are named in "
            f"{self.corrupt.path}); add images to it or remove it"
        )

    def _read(self, index: int) -> Any:
        place = self.indices[index]
        return read_or_report(lambda: self.samples.image(place), self.samples.where(place), self.corrupt)

    def class_title(self, label: int) -> str:
        """What messages call a class."""
        return f"class {label}" if self.classes is None else f"the class {self.classes[label]!r}"


class DecodedSamples(Samples):
    """Samples decoded once and kept as pixels: for small images, whose decoding costs as much as their augmentation.

    Args:
        samples: where the images come from; all must have the same size.
        corrupt: counts the images that cannot be read; `image` then refuses them, as an undecoded set would.
        only: the samples that will be asked for; the others stay black.

    Raises:
        ValueError: the sizes differ, no image can be read, or one cannot and there is no `corrupt`.
        TooManyCorruptError: more images cannot be read than `corrupt` allows.
    """

    def __init__(
        self, samples: Samples, *, corrupt: CorruptImages | None = None, only: Collection[int] | None = None
    ) -> None:
        super().__init__(samples.labels, samples.names, samples.classes, samples.source)
        self.kind, self.where, self.identity = samples.kind, samples.where, samples.identity
        self._unreadable: dict[int, Stored] = {}
        pixels: np.ndarray | None = None
        for index in range(len(samples)) if only is None else sorted(only):
            opened = read_or_report(partial(samples.image, index), samples.where(index), corrupt)
            if opened is None:
                self._unreadable[index] = samples.stored(index)
                continue
            image = np.asarray(opened)
            if pixels is None:
                # One block, so that worker processes share it instead of copying it piece by piece.
                pixels = np.zeros((len(samples), *image.shape), dtype=np.uint8)
            if image.shape != pixels.shape[1:]:
                raise ValueError(
                    f"{samples.names[index]} is {image.shape[1]} x {image.shape[0]} pixels, others "
                    f"{pixels.shape[2]} x {pixels.shape[1]}; decode: once needs one size"
                )
            pixels[index] = image
        if pixels is None:
            raise ValueError(f"none of the {len(samples)} images can be read; give data with images")
        self._pixels = pixels

    def stored(self, index: int) -> Stored:
        """The decoded image; one that could not be read as it is stored, to be refused again."""
        return self._unreadable[index] if index in self._unreadable else Image.fromarray(self._pixels[index])


def apply_seeded(transform: Transform, image: Any, seed: int) -> Any:
    """Transform an image with torch's random numbers beginning at `seed`; the process's own stay as they were."""
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        return transform(image)


def open_dataset(
    path: Source,
    transform: Transform | None = None,
    *,
    classes: Sequence[str] | None = None,
    root: str | Path | None = None,
) -> ImageDataset:
    """Open images with labels, whatever they are stored in, as a map-style data set of (image, class index).

    `path`, `classes`, `root` and the errors are those of `convit.data.open_samples`; `transform` takes a PIL image.
    Encoded images are held in memory (those of Parquet up to 4 GB); `convit.data.streams` reads shards that do not fit.
    """
    samples = open_samples(path, classes=classes, root=root, in_memory=True)
    return ImageDataset(samples, transform, classes=samples.class_names)


def check_trainable(dataset: ImageDataset) -> None:
    """Refuse a data set from which nothing can be learned.

    Raises:
        ValueError: fewer than two classes have images.
    """
    found = {dataset.label(index) for index in range(len(dataset))}
    if len(found) < 2:
        only = " and ".join(dataset.class_title(label) for label in found) or "no class"
        raise ValueError(
            f"all {len(dataset)} images belong to {only}, but a classifier needs at least two classes; add images of "
            f"another class, each class in a folder of its own, or give a .csv of images and labels"
        )


def hold_out(labels: Sequence[int], count: int, seed: int) -> tuple[list[int], list[int]]:
    """Split the positions of labels into training ones and `count` held-out ones, every class in proportion.

    Both are ascending, and the same for the same seed.

    Raises:
        ValueError: `count` is negative or leaves no training image.
    """
    if not 0 <= count < len(labels):
        raise ValueError(
            f"held_out is {count}, but must lie between 0 and {len(labels) - 1}, one less than the training images"
        )
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    # Stable sort by rank within the class: the first `count` then hold each class's first few, in proportion.
    sizes, seen = Counter(labels), Counter[int]()
    ranked: list[tuple[float, int]] = []
    for position in shuffled:
        label = labels[position]
        seen[label] += 1
        # the first of each class comes before the second of any, so that small classes have their share too
        first = seen[label] == 1 and sizes[label] > 1
        ranked.append((0.0 if first else seen[label] / sizes[label], position))
    ranked.sort(key=lambda pair: pair[0])
    held = {position for _, position in ranked[:count]}
    return [position for position in range(len(labels)) if position not in held], sorted(held)


def take_share(labels: Sequence[int], share: float, seed: int) -> list[int]:
    """Ascending positions of a part of the samples, of each class the same part and at least one.

    `round(share * n)` of a class with n samples are taken; of the same seed, a larger share holds every smaller one.

    Raises:
        ValueError: `share` is not above 0 and up to 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}, but must be above 0 and up to 1; 0.1 takes a tenth of each class")
    by_class: dict[int, list[int]] = {}
    for position in torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist():
        by_class.setdefault(labels[position], []).append(position)
    return sorted(
        position for members in by_class.values() for position in members[: max(1, round(share * len(members)))]
    )
