"""Labeled images as vectors: embedded once, and kept for the same model, images, preprocessing and precision."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int64

from convit.output.files import explain, whole_file
from convit.weights.download import default_folder

if TYPE_CHECKING:
    from torch import nn

    from convit.data import ClassName, LabeledImage, Samples
    from convit.inference.embedder import Embedder

TAG = "CACHEDIR.TAG"
_TAG_TEXT = "Signature: 8a477f597d28d172789f06886806bc55\n# Embeddings that convit keeps; may be deleted at any time.\n"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Embedded:
    """The vectors of a data set.

    Attributes:
        vectors: one per image that could be read, in the data's order.
        labels: the images' classes in the data's own counting.
        names: the images' names.
        unreadable: name → problem of each image that could not be read.
        identity: what made them: "data", and what `identify` says of the model.
        classes: what each label means; None if the data do not say.
        broken: places of the unreadable images in the data's order, ascending.
    """

    vectors: Float32[np.ndarray, "images dim"]
    labels: Int64[np.ndarray, " images"]
    names: list[str]
    unreadable: dict[str, str]
    identity: dict[str, Any]
    classes: Sequence[ClassName] | None = None
    broken: tuple[int, ...] = ()


class EmbeddingCache:
    """A folder with one NumPy archive per data set and model: `vectors` (float32), `labels` (int64), and `about`.

    An archive appears whole or not at all, and its checksums are verified when it is read.

    Args:
        folder: the folder, made when something is kept; None for "embeddings" in convit's own folder of the user's
            cache (`XDG_CACHE_HOME`, or ~/.cache).

    Raises:
        FileExistsError: the folder holds something else.
        NotADirectoryError: it is a file.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = default_folder() / "embeddings" if folder is None else Path(folder).expanduser()
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder} is a file, but the cache is a folder; choose another name")
        if self.folder.is_dir() and any(self.folder.iterdir()) and not (self.folder / TAG).is_file():
            raise FileExistsError(f"{self.folder} holds other files and no embeddings; choose another --cache")

    def place(self, identity: dict[str, Any]) -> Path:
        """The file of what `identity` made."""
        text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
        return self.folder / f"{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:20]}.npz"

    def find(self, identity: dict[str, Any], classes: Sequence[ClassName] | None = None) -> Embedded | None:
        """Take what `identity` made; None if there is nothing, or where it is damaged, which is logged."""
        place = self.place(identity)
        if not place.exists():
            return None
        try:
            with place.open("rb") as file, np.load(file) as kept:
                about = json.loads(kept["about"].tobytes())
                if about["identity"] != identity:
                    raise ValueError("it is of another model or of other images")
                about["broken"] = tuple(about["broken"])
                found = Embedded(kept["vectors"], kept["labels"], **about, classes=classes)
        except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
            _log.warning("the embeddings kept in %s are damaged (%s) and are computed again", place, error)
            return None
        _log.info("%d embeddings of an earlier run are taken from %s", len(found.names), place)
        return found

    def keep(self, found: Embedded) -> None:
        """Write embeddings, to be found again.

        Raises:
            OSError: the folder cannot be written.
        """
        about = {name: getattr(found, name) for name in ("names", "unreadable", "identity", "broken")}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # before anything else: a folder that holds something without it is taken for someone else's
            (self.folder / TAG).write_text(_TAG_TEXT, encoding="utf-8")
        except OSError as error:
            raise explain(error, self.folder) from None
        with whole_file(self.place(found.identity), overwrite=True) as file:
            encoded = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
            np.savez(file, vectors=found.vectors, labels=found.labels, about=encoded)


def identify(embedder: Embedder, model: str | nn.Module | None, weights: str | Path | None = None) -> dict[str, Any]:
    """All that an image's vector depends on besides the image.

    That is what `convit.evaluation.weights_used.made_by` gives for the same arguments, and the "convit" version.

    Raises:
        ValueError: the model computes in int8, whose ranges depend on images that nothing names.
        OSError: the weight file cannot be read.
    """
    from convit.evaluation.weights_used import made_by

    if embedder.precision == "int8":
        raise ValueError("the model computes in int8, with ranges chosen on other images; use fp32, bf16 or fp16")
    return {**made_by(embedder, model, weights), "convit": version("convit")}


def embed_labeled(
    images: Samples,
    embedder: Embedder,
    made_by: dict[str, Any],
    *,
    cache: EmbeddingCache | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Embedded:
    """Embed labeled images, or take what a cache holds of them; those that cannot be read are left out.

    An embedding of several vectors (the kinds "tokens", "patches" and "layer:N") is averaged to one. What was kept and
    could not be read then is tried again: it may be the disk or a decoder that failed.

    Args:
        images: the data set.
        embedder: makes the vectors.
        made_by: what `identify` gave for it.
        cache: where vectors are kept, so that the same are not made again; None to keep none.
        advance: called after each image that is embedded.

    Raises:
        OSError: the cache cannot be written; or the images changed while they were embedded, and nothing is kept.
        ValueError: a label is none of the data's classes.
    """
    if cache is None:
        return _embed_all(images, embedder, made_by, advance)
    identity = _identity(images, made_by)
    kept = cache.find(identity, images.classes)
    if kept is not None and all(vector is None for _, vector, _ in _embed(images.take(kept.broken), embedder)):
        return kept
    found = _embed_all(images, embedder, made_by, advance)
    if found.identity != identity:
        name = identity["data"].get("name", images.source)
        raise OSError(f"images of {name} changed while they were embedded; leave them alone, and run this again")
    cache.keep(found)
    return found


def _embed(
    images: Iterable[LabeledImage], embedder: Embedder
) -> Iterator[tuple[LabeledImage, Float32[np.ndarray, " dim"] | None, str]]:
    """Of each image: itself, its vector, None if it cannot be read, and what is wrong then."""
    for image, row in embedder.iterate((image, image.source) for image in images):
        vector = None if row.values is None else row.values.reshape(-1, row.values.shape[-1]).mean(axis=0)
        yield image, vector, row.error or ""


def _embed_all(images: Samples, embedder: Embedder, made_by: dict[str, Any], advance: Callable[[], None]) -> Embedded:
    vectors = np.empty((len(images), embedder.shape[-1]), dtype=np.float32)
    labels: list[int] = []
    names: list[str] = []
    unreadable: dict[str, str] = {}
    broken: list[int] = []
    for place, (image, vector, problem) in enumerate(_embed(images, embedder)):
        if vector is None:
            unreadable[image.name] = problem
            broken.append(place)
        else:
            vectors[len(names)] = vector
            labels.append(image.label)
            names.append(image.name)
        advance()
    identity = _identity(images, made_by)  # now that the images were read, their hashes are known
    counted = np.array(labels, dtype=np.int64)
    return Embedded(vectors[: len(names)], counted, names, unreadable, identity, images.classes, tuple(broken))


def _identity(images: Samples, made_by: dict[str, Any]) -> dict[str, Any]:
    # as JSON gives it back, so that what was kept compares equal
    return json.loads(json.dumps({"data": images.identity(), **made_by}))
