"""Data sets that PyTorch's loaders take: decoded, transformed, with labels; and parts of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from convit.data.corrupt import CorruptImages
from convit.data.locate import Source
from convit.data.opening import open_samples
from convit.data.samples import Samples, Stored
from convit.transforms import create_transform as create_transform  # where timm's users look for them
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
        """(transformed image, class index) of an index, or of (index, augmentation seed).

        With a seed the transform's random numbers depend on it alone, and the process's own stay as they were.

        Raises:
            TooManyCorruptError: more images cannot be read than `corrupt` allows.
            ValueError: the image cannot be read, and there is no `corrupt` or no other image of its class.
        """
        index, seed = key if isinstance(key, tuple) else (key, None)
        image: Any = self._image(index)
        if self.transform is not None:
            image = self.transform(image) if seed is None else apply_seeded(self.transform, image, seed)
        return image, self.label(index)

    def label(self, index: int) -> int:
        """The class index of a sample, without reading its image."""
        return self.samples.labels[self.indices[index]]

    def _image(self, index: int) -> Any:
        """The image, or the next of its class in this data set that can be read, beginning anew after the last."""
        try:
            return self.samples.image(self.indices[index])
        except ValueError as error:
            if self.corrupt is None:
                raise
            self.corrupt.report(self.samples.where(self.indices[index]), error)
        if self._same_class is None:
            self._same_class = {}
            for number in range(len(self)):
                self._same_class.setdefault(self.label(number), []).append(number)
        same_class = self._same_class[self.label(index)]
        here = same_class.index(index % len(self))
        for other in same_class[here + 1 :] + same_class[:here]:
            try:
                return self.samples.image(self.indices[other])
            except ValueError as error:
                self.corrupt.report(self.samples.where(self.indices[other]), error)
        raise ValueError(
            f"{self.class_title(self.label(index))} has no readable image (all {len(same_class)} are named in "
            f"{self.corrupt.path}); add images to it or remove it"
        )

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
        self._unreadable: dict[int, ValueError] = {}
        pixels: np.ndarray | None = None
        for index in range(len(samples)) if only is None else sorted(only):
            try:
                image = np.asarray(samples.image(index))
            except ValueError as error:
                if corrupt is None:
                    raise
                corrupt.report(samples.where(index), error)
                self._unreadable[index] = error
                continue
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
        """The decoded image.

        Raises:
            ImageError: it could not be read.
        """
        if index in self._unreadable:
            raise self._unreadable[index]
        return Image.fromarray(self._pixels[index])


def apply_seeded(transform: Transform, image: Any, seed: int) -> Any:
    """Transform an image with torch's random numbers beginning at `seed`; the process's own stay as they were."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        return transform(image)
    finally:
        torch.set_rng_state(state)


def open_dataset(
    path: Source,
    transform: Transform | None = None,
    *,
    classes: Sequence[str] | None = None,
    root: str | Path | None = None,
) -> ImageDataset:
    """Open images with labels, whatever they are stored in, as a data set of (image, class index).

    `convit.data.open_samples` lists the forms. Encoded images are held in memory (those of Parquet up to 4 GB);
    `convit.data.streams` reads shards that do not fit.

    Args:
        path: where the images are, in one of these forms.
        transform: takes a PIL image; without it PIL images are given.
        classes: class names in the model's order: the data's own names are matched with them, and labels that are mere
            numbers count in them.
        root: folder (or URL) that a relative `path` starts from.

    Returns:
        A map-style data set in a stable order.

    Raises:
        ConnectionError: a server cannot be reached.
        FileNotFoundError: there is nothing at `path`.
        ImportError: a package that this form needs is not installed.
        PermissionError: a file may not be read.
        ValueError: a file or a class folder is not as it must be, or a label is not a class.
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
            f"another class, each class in a folder of its own"
        )


def hold_out(labels: Sequence[int], count: int, seed: int) -> tuple[list[int], list[int]]:
    """Split positions into training and held-out ones, every class in proportion, the same for the same seed.

    Args:
        labels: class index of every sample.
        count: number to hold out.
        seed: which split.

    Returns:
        (training positions, held-out positions), both ascending.

    Raises:
        ValueError: `count` is negative or leaves no training image.
    """
    if not 0 <= count < len(labels):
        raise ValueError(
            f"held_out is {count}, but must lie between 0 and {len(labels) - 1}, one less than the training images"
        )
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    # Stable sort by rank within the class: the first `count` then hold each class's first few, in proportion.
    sizes: dict[int, int] = {}
    for label in labels:
        sizes[label] = sizes.get(label, 0) + 1
    seen: dict[int, int] = {}
    ranked: list[tuple[float, int]] = []
    for position in shuffled:
        label = labels[position]
        seen[label] = seen.get(label, 0) + 1
        # the first of each class comes before the second of any, so that small classes have their share too
        first = seen[label] == 1 and sizes[label] > 1
        ranked.append((0.0 if first else seen[label] / sizes[label], position))
    ranked.sort(key=lambda pair: pair[0])
    held = {position for _, position in ranked[:count]}
    return [position for position in range(len(labels)) if position not in held], sorted(held)


def take_share(labels: Sequence[int], share: float, seed: int) -> list[int]:
    """Positions of a part of the samples, of each class the same part and at least one.

    Of the same seed, a larger share holds every smaller one.

    Args:
        labels: class index of every sample.
        share: the part, above 0 and up to 1; `round(share * n)` of a class with n samples are taken.
        seed: which samples.

    Returns:
        Ascending positions.

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
