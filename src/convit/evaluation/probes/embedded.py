"""Labeled images as vectors: embedded once, in memory or in a cache."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64
from torch import nn

from convit.evaluation.labeled.images import check_labels
from convit.evaluation.weights_used import fingerprint_of
from convit.images.opening import ImageSource
from convit.inference.embedder import Embedder

if TYPE_CHECKING:
    from convit.evaluation.labeled import ClassName, LabeledImage, LabeledImages
    from convit.evaluation.probes.cache import EmbeddingCache


class EmbeddedImage(NamedTuple):
    """One image.

    Attributes:
        name: as in `LabeledImage`.
        label: its class in the data's own counting.
        vector: float32 (dim,); None where the image could not be read.
        problem: what is wrong then.
    """

    name: str
    label: int
    vector: Float32[np.ndarray, " dim"] | None
    problem: str | None


@dataclass(frozen=True, eq=False)
class Embedded:
    """The vectors of a data set.

    Attributes:
        vectors: one per image that could be read, in the data's order; on disk where they come from a cache.
        labels: the images' classes in the data's own counting.
        names: the images' names.
        unreadable: name → problem of each image that could not be read.
        identity: what made them: "data", and what `identify` says of the model.
        classes: what each label means; None where the data do not say.
        broken: places of the unreadable images in the data's order, ascending.
    """

    vectors: Float32[np.ndarray, "images dim"]
    labels: Int64[np.ndarray, " images"]
    names: list[str]
    unreadable: dict[str, str]
    identity: dict[str, Any]
    classes: Sequence[ClassName] | None = None
    broken: tuple[int, ...] = ()


def identify(
    embedder: Embedder,
    model: str | nn.Module | None,
    weights: str | Path | None = None,
) -> dict[str, Any]:
    """All that an image's vector depends on besides the image.

    Args:
        embedder: what embeds.
        model: what it was made of: a name, a module, or None for the default.
        weights: the file or folder of its weights, if one was named.

    Returns:
        "model" (its name), "fingerprint" of the weights, "kind", "preprocessing", "precision" and the "convit" version.

    Raises:
        ValueError: the model computes in int8, whose ranges depend on images that nothing names.
        OSError: the weight file cannot be read.
    """
    if embedder.precision == "int8":
        raise ValueError("the model computes in int8, with ranges chosen on other images; use fp32, bf16 or fp16")
    return {
        "model": embedder.name,
        "fingerprint": fingerprint_of(model, weights),
        "kind": embedder.kind,
        "preprocessing": {**embedder.transform.settings.to_dict(), "apply_exif": embedder.apply_exif},
        "precision": embedder.precision,
        "convit": version("convit"),
    }


def embed_labeled(
    images: LabeledImages,
    embedder: Embedder,
    made_by: dict[str, Any],
    *,
    cache: EmbeddingCache | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Embedded:
    """Embed labeled images, or take what a cache holds of them.

    An embedding of several vectors (the kinds "tokens", "patches" and "layer:N") is averaged to one. What was kept and
    could not be read then is tried again: it may be the disk or a decoder that failed.

    Args:
        images: the data set.
        embedder: makes the vectors.
        made_by: what `identify` gave for it.
        cache: where vectors are kept, so that the same are not made again; None to keep none.
        advance: called after each image that is embedded.

    Returns:
        The vectors, without the images that could not be read.

    Raises:
        OSError: the cache cannot be written; or the images changed while they were embedded, and nothing is kept.
        ValueError: a label is none of the data's classes.
    """
    check_labels(images)
    if cache is None:
        return _in_memory(images, embedder, made_by, advance)
    identity = _identity(images, made_by)
    found = cache.find(identity, images.classes)
    if found is not None and (not found.broken or _still_broken(images, found.broken, embedder)):
        return found
    rows = _unchanged(_embed(images, embedder, advance), images, made_by, identity)
    return cache.keep(rows, embedder.shape[-1], identity, images.classes)


def _still_broken(images: LabeledImages, places: Sequence[int], embedder: Embedder) -> bool:
    return all(row.vector is None for row in _embed(images.take(places), embedder, lambda: None))


def _unchanged(
    rows: Iterable[EmbeddedImage], images: LabeledImages, made_by: dict[str, Any], identity: dict[str, Any]
) -> Iterator[EmbeddedImage]:
    """The rows; an error behind the last one where what was read is not what `identity` says."""
    yield from rows
    if _identity(images, made_by) != identity:
        name = identity["data"].get("name", images.source)
        raise OSError(f"images of {name} changed while they were embedded; leave them alone, and run this again")


def _embed(images: Iterable[LabeledImage], embedder: Embedder, advance: Callable[[], None]) -> Iterator[EmbeddedImage]:
    waiting: deque[tuple[str, int]] = deque()

    def contents() -> Iterator[ImageSource]:
        for image in images:
            waiting.append((image.name, image.label))
            yield image.content

    for row in embedder.iterate(contents()):
        name, label = waiting.popleft()
        if row.values is None:
            # the message calls bytes "<bytes>"; a path is named in it already
            yield EmbeddedImage(name, label, None, str(row.error).replace(row.path, name, 1))
        else:
            yield EmbeddedImage(name, label, row.values.reshape(-1, row.values.shape[-1]).mean(0), None)
        advance()


def _in_memory(
    images: LabeledImages, embedder: Embedder, made_by: dict[str, Any], advance: Callable[[], None]
) -> Embedded:
    vectors = np.empty((images.count, embedder.shape[-1]), dtype=np.float32)
    labels: list[int] = []
    names: list[str] = []
    unreadable: dict[str, str] = {}
    broken: list[int] = []
    for place, row in enumerate(_embed(images, embedder, advance)):
        if row.vector is None:
            unreadable[row.name] = row.problem or ""
            broken.append(place)
            continue
        vectors[len(names)] = row.vector
        labels.append(row.label)
        names.append(row.name)
    identity = _identity(images, made_by)  # now that the images were read, their hashes are known
    read = vectors[: len(names)]
    kept = np.array(labels, dtype=np.int64)
    return Embedded(read, kept, names, unreadable, identity, images.classes, tuple(broken))


def _identity(images: LabeledImages, made_by: dict[str, Any]) -> dict[str, Any]:
    # as JSON gives it back, so that what was kept compares equal
    return json.loads(json.dumps({"data": images.identity(), **made_by}))
