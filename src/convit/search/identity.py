"""Which model made an index: kept beside its vectors, so that no other model's are mixed in or compared with them."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from convit.data.locate import file_sha256
from convit.evaluation.weights_used import find_weights_used
from convit.inference.output.files import whole_file
from convit.inference.predicting import DEFAULT_MODEL

FILE = "index.json"
_MODULE = "module:"


@dataclass(frozen=True)
class Identity:
    """What is known of an index besides its rows.

    Attributes:
        root: the indexed folder, absolute.
        name: the model's name, as messages show it.
        model: the name that loads it; None where `weights` describe themselves, or a module was handed over.
        weights: the file or folder that its weights were read from, absolute; None for published ones.
        fingerprint: "sha256:" and the hash of the weight file, or "module:" and that of a module's parameters.
        dim: length of a vector.
        image: (height, width) of the model's input, pixels.
    """

    root: str
    name: str
    model: str | None
    weights: str | None
    fingerprint: str
    dim: int
    image: tuple[int, int]

    @property
    def is_of_module(self) -> bool:
        """Whether the model was handed over as a module, so that nobody else can load it."""
        return self.fingerprint.startswith(_MODULE)

    def write(self, db: Path) -> None:
        """Keep it in the store's folder; the file appears whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        with whole_file(db / FILE, overwrite=True) as file:
            file.write(f"{json.dumps(asdict(self), indent=1)}\n".encode())


def read_identity(db: Path) -> Identity | None:
    """Read what `Identity.write` kept; None where there is no such file.

    Raises:
        ValueError: the file is damaged.
    """
    file = db / FILE
    try:
        values: Any = json.loads(file.read_bytes())
        values["image"] = tuple(values["image"])
        if sorted(values) != sorted(field.name for field in fields(Identity)) or not isinstance(values["dim"], int):
            raise ValueError("its fields are not those of an index")
        return Identity(**values)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}); delete the folder {db} and index again") from error


def name_of(model: str | nn.Module | None, weights: str | os.PathLike[str] | None) -> str:
    """What messages call a model, before it is loaded."""
    if isinstance(model, nn.Module):
        return type(model).__name__
    return model or (DEFAULT_MODEL if weights is None else Path(weights).name)


def fingerprint_of(model: str | nn.Module | None, weights: str | Path | None) -> str:
    """Tell one set of weights from all others, whatever the precision it runs in.

    Args:
        model: a name, a module, or None for the default.
        weights: a file or folder in the place of published weights.

    Returns:
        "sha256:" and the hash of the weight file; for a module "module:" and the hash of its parameters and buffers.

    Raises:
        As `convit.evaluation.weights_used.find_weights_used`.
    """
    if not isinstance(model, nn.Module):
        return f"sha256:{file_sha256(find_weights_used(model, weights))}"
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(f"{name} {tuple(value.shape)} ".encode())
        found.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return f"{_MODULE}{found.hexdigest()}"
