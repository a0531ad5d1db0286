"""Data sets that PyTorch's loaders take: decoded, transformed, with labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from convit.data.locate import find_shards, means_shards, read_class_names
from convit.data.samples import FolderSamples, Samples, ShardSamples

Transform = Callable[[Any], Any]


class ImageDataset(Dataset[tuple[Any, int]]):
    """Images and labels by index, decoded to RGB and transformed.

    Args:
        samples: encoded images with labels.
        transform: takes a PIL image; without it the PIL image itself is given.
        indices: the samples that belong to this data set, in this order; all without it.
        classes: class names, where known.
    """

    def __init__(
        self,
        samples: Samples,
        transform: Transform | None = None,
        *,
        indices: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.samples, self.transform = samples, transform
        self.indices = range(len(samples)) if indices is None else indices
        self.classes = tuple(classes) if classes is not None else None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Any, int]:
        """(transformed image, class index) of an index, or of (index, augmentation seed).

        With a seed the transform's random numbers depend on it alone, and the process's own stay as they were.

        Raises:
            ValueError: the image cannot be read.
        """
        index, seed = key if isinstance(key, tuple) else (key, None)
        position = self.indices[index]
        image: Any = self.samples.image(position)
        if self.transform is not None:
            image = self.transform(image) if seed is None else apply_seeded(self.transform, image, seed)
        return image, self.samples.labels[position]

    def label(self, index: int) -> int:
        """The class index of a sample, without reading its image."""
        return self.samples.labels[self.indices[index]]


def apply_seeded(transform: Transform, image: Any, seed: int) -> Any:
    """Transform an image with torch's random numbers beginning at `seed`; the process's own stay as they were."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        return transform(image)
    finally:
        torch.set_rng_state(state)


def open_dataset(
    path: str | Path | Sequence[str | Path],
    transform: Transform | None = None,
    *,
    classes: Sequence[str] | None = None,
    root: str | Path | None = None,
) -> ImageDataset:
    """Open an image folder or WebDataset shards as a data set of (image, class index).

    Args:
        path: a folder with one sub-folder per class; or shards as a pattern ("test-{000..004}.tar.gz"), a list, or a
            folder of .tar files.
            Shards are read into memory, encoded as they are; `convit.data.streams` reads those that do not fit.
        transform: takes a PIL image; without it PIL images are given.
        classes: class names in the model's order; a folder's sub-folders are matched with them. Shards take them from a
            `classes.json` beside them if there is one.
        root: folder that a relative `path` starts from.

    Returns:
        A map-style data set in a stable order.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: a shard or a class folder is not as it must be.
    """
    if means_shards(path, root):
        shards = find_shards(path, root)
        beside = shards[0].parent / "classes.json"
        if classes is None and beside.is_file():
            classes = read_class_names(beside)
        return ImageDataset(ShardSamples(shards), transform, classes=classes)
    assert isinstance(path, (str, Path))
    samples = FolderSamples(Path(path) if root is None else Path(root) / path, classes)
    return ImageDataset(samples, transform, classes=samples.classes)


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
        ranked.append((seen[label] / sizes[label], position))
    ranked.sort(key=lambda pair: pair[0])
    held = {position for _, position in ranked[:count]}
    return [position for position in range(len(labels)) if position not in held], sorted(held)
