"""The images among which duplicates are sought: from a folder or a data set, embedded once and kept in memory."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float32
from PIL import Image

from convit.data.locate import find_files, kind_of
from convit.data.opening import open_samples
from convit.data.parquet import ParquetSamples
from convit.data.samples import Stored, check_label, named_source, read_stored
from convit.data.shards import ShardSamples
from convit.data.splits import part_of
from convit.images import find_images
from convit.images.lists import is_list, read_list
from convit.images.names import path_text
from convit.images.opening import ImageSource

if TYPE_CHECKING:
    from convit.inference.embedder import Embedder

_NUMBER = re.compile(r"[-_.]?\d+(?:-of-\d+)?$")


@dataclass(frozen=True)
class ListedImage:
    """One image among which duplicates are sought.

    Attributes:
        name: its path, as `convit.images.names.path_text` writes it, or its key.
        label: its class; None if it has none.
        split: the part of the data set that it belongs to; None if there are no parts.
        sha256: of its file.
        read: gives the file's bytes, its path where it cannot be read, or the image where the data keep pixels.
    """

    name: str
    label: str | None
    split: str | None
    sha256: str
    read: Callable[[], Stored]

    @property
    def place(self) -> str:
        """Its name with its split in front, where the name does not say it already."""
        told = self.split is None or self.name.startswith(f"{self.split}/")
        return self.name if told else f"{self.split}/{self.name}"


@dataclass
class EmbeddedImages:
    """Images and their vectors, in one order.

    Attributes:
        images: what can be read.
        vectors: (images, dim), of length 1.
        unreadable: name → one line that says what is wrong.
    """

    images: list[ListedImage]
    vectors: Float32[np.ndarray, "images dim"]
    unreadable: dict[str, str] = field(default_factory=dict[str, str])


def list_images(source: str | Path, left_out: Counter[str] | None = None) -> list[ListedImage]:
    """List the images of a folder, a list or a data set, with labels and splits where there are any.

    In folders the label is the name of the class folder, and the split that of a part above it (`val/cat/1.jpg`), as
    `convit.data.splits` knows them. In all that `convit.data.open_samples` opens besides, the label is the class's
    name, or its number where the data do not say it, and the split of shards and Parquet files is the file's name
    without its number (`val-000000.tar`, `val-00000-of-00001.parquet`). Folders, lists and shards need no labels.

    Raises:
        FileNotFoundError: there is nothing at `source`.
        ValueError: there is no image, or a file is damaged.
    """
    kind = kind_of(source)
    if kind.name in ("folder", "list"):
        files = list_files(source, left_out, one_label=False)
        return [
            ListedImage(path_text(name), label, split_of(name), "", partial(read_stored, files.root / name))
            for name, label in files.images
        ]
    found: list[ListedImage] = []
    for file in find_files(source, kind=kind.name) if kind.suffixes else [source]:
        split = None if not kind.suffixes else _NUMBER.sub("", str(file).rpartition("/")[2].split(".")[0]) or None
        if kind.name == "shards":
            samples = ShardSamples([file], in_memory=True, needs_label=False)
        elif kind.name == "parquet":
            samples = ParquetSamples([file], needs_label=False)
        else:
            samples = open_samples(file, in_memory=True)
        titles = samples.class_names
        for place, (name, label) in enumerate(zip(samples.names, samples.labels, strict=True)):
            if label >= 0:
                check_label(label, name, samples.source, None if titles is None else len(titles))
            title = None if label < 0 else str(label) if titles is None else titles[label]
            found.append(ListedImage(name, title, split, "", partial(samples.content, place)))
    return found


class Files(NamedTuple):
    """Images that are files: the folder that their names start from, (name, class or None) of each, and their list."""

    root: Path
    images: list[tuple[str, str | None]]
    listed_in: Path | None = None


def list_files(source: str | Path, left_out: Counter[str] | None = None, *, one_label: bool = True) -> Files:
    """List the images of a folder or of a list, with the classes that the list gives, else by `label_of`.

    `left_out` is as in `convit.images.find_images`, `one_label` as in `convit.images.lists.ImageList.distinct`.

    Raises:
        FileNotFoundError: there is no such folder or list, or none of the images of the list.
        ValueError: the folder holds no image, or the list is not as it must be, or gives an image two labels.
    """
    if is_list(source):
        listed = read_list(source).distinct(one_label=one_label)
        labels = listed.labels or map(label_of, listed.names)
        return Files(listed.folder, list(zip(listed.names, labels, strict=True)), listed.file)
    place = Path(source)
    root = place.parent if place.is_file() else place
    names = [file.relative_to(root).as_posix() for file in find_images(place, left_out=left_out)]
    return Files(root, [(name, label_of(name)) for name in names])


def embed_images(
    images: list[ListedImage], embedder: Embedder, advance: Callable[[], None] | None = None
) -> EmbeddedImages:
    """Embed and hash images, reading each once, with vectors of length 1 (`normalize=True`)."""
    kept: list[ListedImage] = []
    vectors = np.empty((len(images), *embedder.shape), np.float32)  # once, as a stack would need them twice
    unreadable: dict[str, str] = {}

    def hashed() -> Iterator[tuple[ListedImage, ImageSource]]:
        for image in images:
            source = named_source(image.read(), image.place)
            content = source.tobytes() if isinstance(source, Image.Image) else source
            yield replace(image, sha256=hashlib.sha256(content).hexdigest()), source

    for image, result in embedder.iterate(hashed()):
        if result.values is None:
            unreadable[image.place] = result.error or ""
        else:
            vectors[len(kept)] = result.values
            kept.append(image)
        if advance is not None:
            advance()
    return EmbeddedImages(kept, vectors[: len(kept)], unreadable)


def label_of(path: str) -> str | None:
    """The class folder that an image lies in, as evaluation and training see it: the topmost one below a part.

    Of a path that leads out of the folder it starts from, no folder is known to be one.

    >>> label_of("train/cat/1.jpg"), label_of("cat/close/1.jpg"), label_of("1.jpg"), label_of("/data/cat/1.jpg")
    ('cat', 'cat', None, None)
    >>> label_of("train/../cat/1.jpg"), label_of("cat/../../cat/1.jpg")
    ('cat', None)
    """
    folders = posixpath.normpath(path).split("/")[:-1]
    if folders[:1] in ([""], [".."]):
        return None
    return next((folder for folder in folders if part_of(folder) is None), None)


def split_of(path: str) -> str | None:
    """The part of a data set that a path begins with, None for others.

    >>> split_of("Training/cat/1.jpg"), split_of("cat/close/1.jpg"), split_of("train/../cat/1.jpg")
    ('Training', None, None)
    """
    first, *below = posixpath.normpath(path).split("/")
    return first if below and part_of(first) else None
