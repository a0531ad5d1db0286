"""Which model made an index: kept beside its vectors, loaded as it was the first time, refused if it is another."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float32
from pydantic import BaseModel, PositiveInt, ValidationError
from torch import nn

from convit.evaluation.weights_used import MODULE, fingerprint_of
from convit.images.names import escaped, path_text, text_path
from convit.inference.embedder import Embedder
from convit.inference.models import find_exported
from convit.inference.options import model_name
from convit.output.files import write_file
from convit.search.store import FILE
from convit.weights.weight_sets import split_source

# what an index's first embedder is told and the later ones are told again
KEPT_OPTIONS: dict[str, Any] = {"crop_pct": None, "apply_exif": True, "fast_decode": False, "kind": "pooled"}


class Identity(BaseModel, frozen=True, strict=True, extra="forbid"):
    """What is known of an index besides its rows.

    Attributes:
        root: the folder that the paths of its images start from, absolute.
        name: the model's name, as messages show it.
        model: the name that loads it; None if `weights` describe themselves, or a module was handed over.
        weights: the file or folder that its weights were read from, absolute; None for published ones.
        fingerprint: "sha256:" and the hash of the weight file, or "module:" and that of a module's parameters.
        dim: length of a vector.
        image: (height, width) of the model's input, pixels.
        preprocessing: how images are made into that input: crop, interpolation, EXIF orientation and the like.
        precisions: what its vectors were computed in, such as "fp32"; several where updates differed.
        listed_in: the list that names its images, absolute; None if they are those of the folder.
        made_from: where its vectors were read from; None if the images were embedded for it.
    """

    root: str
    name: str
    model: str | None
    weights: str | None
    fingerprint: str
    dim: PositiveInt
    image: tuple[PositiveInt, PositiveInt]
    preprocessing: dict[str, Any]
    precisions: tuple[str, ...]
    listed_in: str | None = None
    made_from: str | None = None

    @property
    def place(self) -> str:
        """What was indexed: the results of a job, the list, else the folder."""
        return self.made_from or self.listed_in or self.root

    def write(self, db: Path) -> None:
        """Keep it in the store's folder; the file appears whole or not at all."""
        write_file(db / FILE, self.model_dump_json(indent=1) + "\n", overwrite=True)


def read_identity(db: Path) -> Identity | None:
    """Read what `Identity.write` kept; None if there is no such file.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return Identity.model_validate_json((db / FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        problem = ": ".join([*map(str, first["loc"]), first["msg"]])
        raise ValueError(f"{db / FILE} is damaged ({problem}); delete the folder {db} and index again") from error


@contextmanager
def locked(db: Path) -> Generator[None]:
    """Keep other processes from updating an index meanwhile; its folder is made where there is none.

    Raises:
        BlockingIOError: another process is updating it.
        OSError: the folder cannot be written.
    """
    try:
        db.mkdir(parents=True, exist_ok=True)
        with FileLock(db / ".lock", timeout=0):
            yield
    except Timeout:
        raise BlockingIOError(f"{db}: another process is indexing; wait for it, or end it") from None


def check_made_so(
    db: Path,
    known: Identity,
    model: str | nn.Module | None,
    weights: str | Path | None,
    options: Mapping[str, Any],
) -> None:
    """Refuse any model but the one that made an index, and other options of reading, with a `ValueError`."""
    if model is not None or weights is not None:
        check_model(db, known, model, weights)
    _check_same(db, known, {name: options[name] for name in KEPT_OPTIONS if name in options})


def check_model(db: Path, known: Identity, model: str | nn.Module | None, weights: str | Path | None) -> None:
    """Refuse any model but the one that made an index, with a `ValueError`."""
    if fingerprint_of(model, weights) != known.fingerprint:
        raise ValueError(
            f"{db} was made by {known.name}, but the model is {model_name(model, weights)}, whose weights are "
            "others; name the model that made it, or make another index"
        )


def load_embedder(
    db: Path,
    known: Identity | None,
    model: str | nn.Module | None,
    weights: str | Path | None,
    options: Mapping[str, Any],
) -> Embedder:
    """Load the model of an index; what is not given is as it was when the index was made.

    `known` is which model made it, None before its first update; the others are as for `Index`.

    Raises:
        ValueError: the model, the size of its input or its preprocessing is not what the index was made with.
        FileNotFoundError, OSError: the weights cannot be found or fetched.
    """
    given: dict[str, Any] = {**options, "normalize": True}
    if known is None:
        return Embedder(model, weights=weights, **given)
    if model is None and weights is None:
        if known.fingerprint.startswith(MODULE):
            raise ValueError(f"{db} was made by a module ({known.name}); hand the same over as model=…")
        model, weights = known.model, None if known.weights is None else text_path(known.weights)
        check_model(db, known, model, weights)
    kept = {name: known.preprocessing.get(name, default) for name, default in KEPT_OPTIONS.items()}
    given = {"img_size": known.image, **kept, **given}
    embedder = Embedder(model, weights=weights, **given)
    settings = embedder.transform.settings
    if (settings.height, settings.width) != known.image:
        raise ValueError(
            f"{db} was made with images of {known.image[0]} x {known.image[1]} pixels, but img_size is "
            f"{settings.height} x {settings.width}; leave img_size out, or make another index"
        )
    _check_same(db, known, preprocessing_of(embedder.identity))
    return embedder


def _check_same(db: Path, known: Identity, preprocessing: Mapping[str, Any]) -> None:
    for name, value in preprocessing.items():
        if known.preprocessing.get(name) != value:
            raise ValueError(
                f"{db} was made with {name} {known.preprocessing.get(name)}, but it is {value} now; leave the option "
                "out, or make another index"
            )


def identity_of(
    embedder: Embedder, place: Mapping[str, Any], model: str | nn.Module | None, weights: str | Path | None
) -> Identity:
    """What a new index keeps of its `place` (root, listed_in), and of its model by what `load_embedder` was given."""
    made = embedder.identity
    return Identity(
        **place,
        name=escaped(embedder.name),
        model=_kept_name(model) if isinstance(model, str) else None,
        weights=None if weights is None else path_text(Path(weights).expanduser().resolve()),
        fingerprint=fingerprint_of(model, weights),
        dim=embedder.shape[0],
        image=tuple(made["preprocessing"]["input_size"][1:]),
        preprocessing=preprocessing_of(made),
        precisions=(precision_of(made),),
    )


def _kept_name(model: str) -> str:
    """A model's name as it is found again from another folder."""
    source, rest = split_source(model)
    if source == "local-dir":
        return f"{source}:{Path(rest).resolve()}"
    folder = find_exported(model)
    return model if folder is None else path_text(folder.resolve())


def preprocessing_of(made: Mapping[str, Any]) -> dict[str, Any]:
    """What of a `Predictor.identity` decides the model's input for an image, besides its size, and the output kept."""
    pixels = {**made["preprocessing"], "kind": made["kind"]}
    return {name: value for name, value in pixels.items() if name != "input_size"}


def precision_of(made: Mapping[str, Any]) -> str:
    """What a `Predictor.identity` says of the precision of vectors, for int8 with the export that has its ranges."""
    ranges = f", exported as {made['exported'][:19]}" if made["exported"] and made["precision"] == "int8" else ""
    return f"{made['precision']}{ranges}"


def unit_vector(vector: np.ndarray, known: Identity) -> Float32[np.ndarray, " dim"]:
    """A vector that somebody hands over, scaled to length 1.

    Raises:
        ValueError: its length is not that of the model's, or is zero or not finite.
    """
    if len(vector) != known.dim:
        raise ValueError(f"the vector has {len(vector)} values, but {known.name} gives {known.dim}")
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0:
        raise ValueError("the vector is zero or not finite; give one that the model made")
    return (vector / length).astype(np.float32)
