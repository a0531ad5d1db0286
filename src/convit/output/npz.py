"""Embeddings as a NumPy archive, without holding them in memory."""

import json
import shutil
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import numpy as np

from convit.output.rows import Embedding
from convit.output.text import Encoder


class Npz(Encoder):
    """A file for `numpy.load`: `paths` (N), `embeddings` (N, *shape) float32 and `errors` (N), in order.

    An image that failed has NaN for all its values and its message in `errors`, which is "" for the others. What else
    is known is kept as a JSON string in `about`. The embeddings wait in `folder` until their number is known.
    """

    def __init__(
        self, file: BinaryIO, folder: Path, *, shape: tuple[int, ...], about: Mapping[str, Any] | None
    ) -> None:
        self._file = file
        self._shape = shape
        self._about = about
        self._paths: list[str] = []
        self._errors: list[str] = []
        self._values = TemporaryFile(dir=folder)  # noqa: SIM115  # closed by finish and abandon

    def add(self, row: Embedding) -> None:
        """Write one embedding."""
        values = np.full(self._shape, np.nan) if row.values is None else row.values
        self._values.write(np.ascontiguousarray(values, dtype="<f4").tobytes())
        self._paths.append(row.path)
        self._errors.append(row.error or "")

    def finish(self) -> None:
        """Put everything into the archive."""
        with self._values, zipfile.ZipFile(self._file, "w") as archive:
            texts: dict[str, list[str] | str] = {"paths": self._paths, "errors": self._errors}
            if self._about:
                texts["about"] = json.dumps(dict(self._about), sort_keys=True)
            for name, text in texts.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.array(text, dtype=np.str_), allow_pickle=False)
            with archive.open("embeddings.npy", "w", force_zip64=True) as member:
                shape = (len(self._paths), *self._shape)
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(member, header)
                self._values.seek(0)
                shutil.copyfileobj(self._values, member, 2**20)

    def abandon(self) -> None:
        """Throw the embeddings away."""
        with suppress(OSError):  # what is buffered may not fit on the disk
            self._values.close()
