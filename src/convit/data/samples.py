"""Samples that can be reached by index: small shards held in memory, and image folders."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff", ".gif")
LABEL_SUFFIX = "cls"


class Samples(Protocol):
    """Images with labels, by index."""

    @property
    def labels(self) -> Sequence[int]:
        """Class index of every sample."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Key or path of every sample, for messages."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image.Image:
        """The decoded RGB image."""
        ...


class ShardSamples:
    """All samples of some shards, encoded, in memory, in the order of the files.

    Meant for sets that fit: CIFAR-10 takes 60 MB. Larger ones are streamed, see `convit.data.streams`.

    Args:
        shards: .tar or compressed tar files whose samples are neighbouring members `<key>.<image suffix>` and
            `<key>.cls`.

    Raises:
        ValueError: a file is no tar archive, or a sample lacks its image or its label.
    """

    def __init__(self, shards: Sequence[Path]) -> None:
        self.labels: list[int] = []
        self.names: list[str] = []
        self._images: list[bytes] = []
        for shard in shards:
            for name, image, label in read_shard(shard):
                self.names.append(name)
                self.labels.append(label)
                self._images.append(image)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """The decoded RGB image.

        Raises:
            ValueError: the image cannot be read.
        """
        return decode_image(self._images[index], self.names[index])


class FolderSamples:
    """An image folder: one sub-folder per class, classes numbered in sorted order, images at any depth.

    Args:
        folder: the folder with the class sub-folders.
        classes: the class names in the model's order; the sub-folders' names must be among them. Without it they are
            the sub-folders, sorted.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no class sub-folder, a class has no image, or a sub-folder is no known class.
    """

    def __init__(self, folder: str | Path, classes: Sequence[str] | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"there is no folder {self.folder}; give the folder whose sub-folders are the classes"
            )
        found = sorted(
            child.name for child in self.folder.iterdir() if child.is_dir() and not child.name.startswith(".")
        )
        if not found:
            raise ValueError(
                f"{self.folder} has no class sub-folders; put the images of each class into a folder of its own"
            )
        self.classes = tuple(classes) if classes is not None else tuple(found)
        self.labels: list[int] = []
        self.names: list[str] = []
        for name in found:
            if name not in self.classes:
                raise ValueError(
                    f"the folder {self.folder / name} is none of the {len(self.classes)} known classes; rename "
                    f"or remove it"
                )
            images = [
                path
                for path in sorted((self.folder / name).rglob("*"))
                if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
            ]
            if not images:
                raise ValueError(f"the class folder {self.folder / name} holds no image; fill it or remove it")
            self.labels.extend([self.classes.index(name)] * len(images))
            self.names.extend(str(path) for path in images)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """The decoded RGB image.

        Raises:
            ValueError: the image cannot be read.
        """
        return decode_image(Path(self.names[index]).read_bytes(), self.names[index])


class DecodedSamples:
    """Samples decoded once and kept as pixels: for small images, whose decoding costs as much as their augmentation.

    Args:
        samples: where the images come from; all must have the same size.

    Raises:
        ValueError: an image cannot be read, or the sizes differ.
    """

    def __init__(self, samples: Samples) -> None:
        self.labels, self.names = samples.labels, samples.names
        first = np.asarray(samples.image(0))
        # One block, so that worker processes share it instead of copying it piece by piece.
        self._pixels = np.empty((len(samples), *first.shape), dtype=np.uint8)
        for index in range(len(samples)):
            pixels = np.asarray(samples.image(index))
            if pixels.shape != first.shape:
                raise ValueError(
                    f"{samples.names[index]} is {pixels.shape[1]} x {pixels.shape[0]} pixels, others "
                    f"{first.shape[1]} x {first.shape[0]}; decode: once needs one size"
                )
            self._pixels[index] = pixels

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """The RGB image."""
        return Image.fromarray(self._pixels[index])


def read_shard(shard: Path) -> Iterator[tuple[str, bytes, int]]:
    """Yield (key, encoded image, class index) of one shard, in file order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no tar archive, is truncated, or a sample lacks its image or its label.
    """
    try:
        with tarfile.open(shard) as archive:
            sample: dict[str, bytes] = {}
            key = ""
            for member in archive:
                if not member.isfile():
                    continue
                stem, _, suffix = member.name.partition(".")
                if stem != key and sample:
                    yield _assemble(shard, key, sample)
                    sample = {}
                key = stem
                file = archive.extractfile(member)
                assert file is not None
                sample[suffix.lower()] = file.read()
            if sample:
                yield _assemble(shard, key, sample)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, (FileNotFoundError, PermissionError)):
            raise
        raise ValueError(f"{shard} cannot be read as a tar archive ({error}); fetch or write it again") from error


def _assemble(shard: Path, key: str, sample: dict[str, bytes]) -> tuple[str, bytes, int]:
    image = next((sample[suffix] for suffix in sample if f".{suffix}" in IMAGE_SUFFIXES), None)
    if image is None or LABEL_SUFFIX not in sample:
        raise ValueError(
            f"sample {key!r} of {shard} has members {sorted(sample)}, but needs an image (such as .jpg) and a "
            f".cls with the class index"
        )
    try:
        return key, image, int(sample[LABEL_SUFFIX])
    except ValueError as error:
        raise ValueError(
            f"sample {key!r} of {shard} has the label {sample[LABEL_SUFFIX][:20]!r}, but .cls must hold a whole number"
        ) from error


def decode_image(data: bytes, name: str = "") -> Image.Image:
    """The RGB image of encoded bytes (JPEG, PNG, WebP …), as Pillow's `convert("RGB")` makes it.

    Raises:
        ValueError: Pillow cannot read it; the message holds `name`.
    """
    try:
        return Image.open(BytesIO(data)).convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"sample {name!r} is no readable image ({reason}); remove it or fetch it again") from error
