"""Which model made an index: kept beside its vectors, so that no other model's are mixed in or compared with them."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from convit.evaluation.weights_used import MODULE
from convit.output.files import write_file
from convit.output.text import json_text

FILE = "index.json"


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
        preprocessing: how images are made into that input: crop, interpolation, EXIF orientation and the like.
        precisions: what its vectors were computed in, such as "fp32"; several where updates differed.
    """

    root: str
    name: str
    model: str | None
    weights: str | None
    fingerprint: str
    dim: int
    image: tuple[int, int]
    preprocessing: dict[str, Any]
    precisions: tuple[str, ...]

    @property
    def is_of_module(self) -> bool:
        """Whether the model was handed over as a module, so that nobody else can load it."""
        return self.fingerprint.startswith(MODULE)

    def write(self, db: Path) -> None:
        """Keep it in the store's folder; the file appears whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        write_file(db / FILE, json_text(asdict(self)), overwrite=True)


def read_identity(db: Path) -> Identity | None:
    """Read what `Identity.write` kept; None where there is no such file.

    Raises:
        ValueError: the file is damaged.
    """
    file = db / FILE
    try:
        values: Any = json.loads(file.read_bytes())
        values["image"], values["precisions"] = tuple(values["image"]), tuple(values["precisions"])
        right = isinstance(values["dim"], int) and isinstance(values["preprocessing"], dict)
        if not right or sorted(values) != sorted(field.name for field in fields(Identity)):
            raise ValueError("its fields are not those of an index")
        return Identity(**values)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}); delete the folder {db} and index again") from error


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
