"""Pictures with labels and splits, from a folder or from shards, embedded once and kept in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from convit.data.classes import classes_beside
from convit.data.locate import find_local_shards, kind_of
from convit.data.shards import read_shard
from convit.images.listing import find_images
from convit.inference.embedder import Embedder
from convit.search.duplicates import Picture, hash_of
from convit.search.scanning import label_of, reader_of, split_of

_NUMBER = re.compile(r"[-_.]?\d+$")


@dataclass
class Collection:
    """Pictures and their vectors, in one order.

    Attributes:
        pictures: what can be read.
        vectors: (pictures, dim), of length 1.
        unreadable: name → one line that says what is wrong.
    """

    pictures: list[Picture]
    vectors: Float32[np.ndarray, "pictures dim"]
    unreadable: dict[str, str] = field(default_factory=dict[str, str])


def list_pictures(path: str | Path) -> list[Picture]:
    """List the pictures of a folder, or of the WebDataset shards in it, with labels and splits.

    In folders the label is the name of the class folder, and the split that of a part above it (`val/cat/1.jpg`), as
    `convit.data.splits` knows them. In shards the label is the class's name in `classes.json`, or its number,
    and the split the shard's name without its number (`val-000000.tar`).

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: there is no picture, or a shard is damaged.
    """
    if kind_of(path).name == "shards":
        return list(_in_shards(path))
    root = Path(path)
    found: list[Picture] = []
    for file in find_images(root):
        name = file.relative_to(root).as_posix() if file != root else file.name
        found.append(Picture(name, label_of(name), split_of(name), "", reader_of(file)))
    return found


def read_collection(
    path: str | Path,
    embedder: Embedder,
    advance: Callable[[], None] | None = None,
    pictures: list[Picture] | None = None,
) -> Collection:
    """Embed all pictures of a folder, or of the shards in it.

    Args:
        path: the folder, or a pattern of shards.
        embedder: gives vectors of length 1 (`normalize=True`).
        advance: called after each picture.
        pictures: what `list_pictures` gave for `path`, where it was called already.

    Raises:
        FileNotFoundError, ValueError: as `list_pictures`.
    """
    listed = list_pictures(path) if pictures is None else pictures
    kept: list[Picture] = []
    vectors = np.empty((len(listed), *embedder.shape), np.float32)  # once, as a stack would need them twice
    unreadable: dict[str, str] = {}

    def hashed() -> Iterator[tuple[Picture, bytes]]:
        for picture in listed:
            try:
                content = picture.read()
            except (OSError, ValueError):  # no bytes are no picture either, and that is what is said
                content = b""
            yield replace(picture, sha256=hash_of(content)), content

    for picture, result in embedder.iterate(hashed()):
        if result.values is None:
            unreadable[picture.place] = (result.error or "").replace("<bytes>", picture.place, 1)
        else:
            vectors[len(kept)] = result.values
            kept.append(picture)
        if advance is not None:
            advance()
    return Collection(kept, vectors[: len(kept)], unreadable)


def _in_shards(path: str | Path) -> Iterator[Picture]:
    shards = find_local_shards(path)
    beside = classes_beside(shards[0])
    names = None if beside is None else [each.name for each in beside[1]]
    for shard in shards:
        split = _NUMBER.sub("", shard.name.split(".")[0]) or None
        for key, content, label in read_shard(shard, None if names is None else len(names)):
            yield Picture(key, str(label) if names is None else names[label], split, "", _keeper(content))


def _keeper(content: bytes) -> Callable[[], bytes]:
    return lambda: content
