"""Embeddings kept on disk: found again for the same model, images, preprocessing and precision, and for no other."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from convit.data.locate import file_sha256
from convit.evaluation.probes.embedded import Embedded, EmbeddedImage
from convit.output.files import explain, whole_file
from convit.weights.download import default_folder

if TYPE_CHECKING:
    from convit.evaluation.labeled import ClassName

VECTORS, LABELS, NAMES, ABOUT = "vectors.npy", "labels.npy", "names.json", "about.json"
TAG = "CACHEDIR.TAG"
_TAG_TEXT = "Signature: 8a477f597d28d172789f06886806bc55\n# Embeddings that convit keeps; may be deleted at any time.\n"
_log = logging.getLogger(__name__)


class EmbeddingCache:
    """A folder with a sub-folder per data set and model.

    In each: `vectors.npy` (float32, images x dim), `labels.npy` (int64), `names.json`, and `about.json`, which says
    what made them and the sha256 of the others. It is written last, so that a run which is killed leaves nothing that
    is believed.

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
        """The sub-folder of what `identity` made."""
        text = json.dumps(identity, sort_keys=True, ensure_ascii=False)
        return self.folder / hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:20]

    def find(self, identity: dict[str, Any], classes: Sequence[ClassName] | None = None) -> Embedded | None:
        """Take what was kept; None where there is nothing, or where it is damaged, which is logged.

        Args:
            identity: what would make the vectors.
            classes: for the result.
        """
        place = self.place(identity)
        if not (place / ABOUT).exists():
            return None
        try:
            found = _read(place, identity, classes)
        except (OSError, KeyError, TypeError, ValueError) as error:
            _log.warning("the embeddings kept in %s are damaged (%s) and are computed again", place, error)
            return None
        _log.info("%d embeddings of an earlier run are taken from %s", len(found.names), place)
        return found

    def keep(
        self,
        rows: Iterable[EmbeddedImage],
        dim: int,
        identity: dict[str, Any],
        classes: Sequence[ClassName] | None = None,
    ) -> Embedded:
        """Write images as they come; memory does not grow with their vectors.

        Args:
            rows: the images.
            dim: length of a vector.
            identity: what made them.
            classes: for the result.

        Returns:
            The images, the vectors read from the disk as they are used.

        Raises:
            OSError: the folder cannot be written.
        """
        place = self._make(identity)
        names: list[str] = []
        labels: list[int] = []
        unreadable: dict[str, str] = {}
        broken: list[int] = []
        with whole_file(place / VECTORS, overwrite=True) as file:
            _write_header(file, 0, dim)
            for number, row in enumerate(rows):
                if row.vector is None:
                    unreadable[row.name] = row.problem or ""
                    broken.append(number)
                    continue
                file.write(np.ascontiguousarray(row.vector, dtype="<f4").data)
                names.append(row.name)
                labels.append(row.label)
            _write_header(file, len(names), dim)
        with whole_file(place / LABELS, overwrite=True) as file:
            np.save(file, np.array(labels, dtype=np.int64))
        _write_json(place / NAMES, names)
        about = {
            "identity": identity,
            "count": len(names),
            "dim": dim,
            "unreadable": unreadable,
            "broken": broken,
            "sha256": {name: file_sha256(place / name) for name in (VECTORS, LABELS, NAMES)},
        }
        _write_json(place / ABOUT, about)
        return _read(place, identity, classes)

    def _make(self, identity: dict[str, Any]) -> Path:
        place = self.place(identity)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # before anything else: a folder that holds something without it is taken for someone else's
            (self.folder / TAG).write_text(_TAG_TEXT, encoding="utf-8")
            place.mkdir(exist_ok=True)
        except OSError as error:
            raise explain(error, place) from None
        return place


def _write_header(file: BinaryIO, count: int, dim: int) -> None:
    """Write the header of a .npy file; its length does not depend on `count`, which is known at the end alone."""
    file.seek(0)
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (count, dim)})


def _write_json(path: Path, value: Any) -> None:
    with whole_file(path, overwrite=True) as file:
        # names of files may hold bytes that are no UTF-8
        file.write(json.dumps(value, indent=1).encode())


def _read(place: Path, identity: dict[str, Any], classes: Sequence[ClassName] | None) -> Embedded:
    about: Any = json.loads((place / ABOUT).read_bytes())
    if about["identity"] != identity:
        raise ValueError(f"{ABOUT} names another model or other images")
    for name, digest in about["sha256"].items():
        if file_sha256(place / name) != digest:
            raise ValueError(f"{name} is not the file that was written")
    vectors = np.load(place / VECTORS, mmap_mode="r") if about["count"] else np.empty((0, about["dim"]), np.float32)
    labels, names = np.load(place / LABELS), json.loads((place / NAMES).read_bytes())
    if vectors.shape != (about["count"], about["dim"]) or not len(vectors) == len(labels) == len(names):
        raise ValueError(f"its {len(vectors)} vectors, {len(labels)} labels and {len(names)} names do not fit")
    return Embedded(vectors, labels, names, about["unreadable"], identity, classes, tuple(about["broken"]))
