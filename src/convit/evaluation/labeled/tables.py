"""Labeled images of Parquet files, of the hub's data sets and of CIFAR's own files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convit.data.cifar import CifarSamples, parse_cifar
from convit.data.hub import HubSamples
from convit.data.locate import file_sha256
from convit.data.parquet import ParquetSamples
from convit.data.remote import shown
from convit.evaluation.labeled.digests import ContentDigests, identity_of_files, sha256_of_lines
from convit.evaluation.labeled.images import ClassName, IndexedImages, LabeledImage


class LabeledParquet(IndexedImages):
    """The rows of Parquet files; see `convit.data.parquet.ParquetSamples` for their columns.

    Few row groups are held in memory at a time. Labels that are names are numbered in sorted order; the hub's notes in
    a file name labels that are numbers.

    Args:
        files: the files, or their URLs.

    Raises:
        ConnectionError: a remote file cannot be read.
        FileNotFoundError: there is no such file.
        PermissionError: a file may not be read.
        ValueError: a file is no Parquet file, lacks images or labels, or a label is no class.
    """

    kind = "parquet"

    def __init__(self, files: Sequence[Path | str]) -> None:
        self._samples = ParquetSamples(files, in_memory=0)
        first = f"{shown(files[0])} …" if len(files) > 1 else shown(files[0])
        super().__init__(self._samples.labels, _classes(self._samples.classes), f"the label column of {first}")
        names = [file.name if isinstance(file, Path) else shown(file) for file in files]
        # files of one name, from several folders, keep their paths
        self._names = names if len(set(names)) == len(names) else [shown(file) for file in files]

    def _image(self, place: int) -> LabeledImage:
        file, row = self._samples.file_and_row(place)
        return LabeledImage(f"{self._names[file]} row {row}", self._samples.stored(place), self._samples.labels[place])

    def identity(self) -> dict[str, Any]:
        """Name and sha256 of each file, and of them all: the file's own where there is one, else over their list."""
        return identity_of_files(
            self.kind, [(name, self._samples.sha256(number)) for number, name in enumerate(self._names)]
        )


class LabeledHub(IndexedImages):
    """One split of a data set of the Hugging Face hub, which the `datasets` library fetches and maps.

    Args:
        source: "hub:owner/name", "hub:owner/name:split" or "hub:owner/name/config:split"; the split is "train" where
            none is said.

    Raises:
        As `convit.data.hub.HubSamples`.
    """

    kind = "hub"

    def __init__(self, source: str) -> None:
        self._samples = samples = HubSamples(source)
        super().__init__(samples.labels, _classes(samples.classes), f"the label column of {source}")
        named = source if source.endswith(f":{samples.split}") else f"{source}:{samples.split}"
        self.name = named  # with its split, whether it was said or not
        self._digests = ContentDigests(self.count)

    def _image(self, place: int) -> LabeledImage:
        content = self._read(place)
        self._digests.note(place, content if isinstance(content, bytes) else None)
        return LabeledImage(f"row {place}", content, self._samples.labels[place])

    def _read(self, place: int) -> bytes | Path:
        stored = self._samples.stored(place)
        try:
            return stored.read_bytes() if isinstance(stored, Path) else stored
        except OSError:
            return stored

    def identity(self) -> dict[str, Any]:
        """The set's name with its split, the library's fingerprint, and one sha256 over "sha256  label" of all rows."""

        def read(place: int) -> bytes | None:
            content = self._read(place)
            return content if isinstance(content, bytes) else None

        found = {"kind": self.kind, "name": self.name, "fingerprint": self._samples.fingerprint}
        return {**found, "sha256": sha256_of_lines(self._digests.lines(self._samples.labels, read))}


class LabeledCifar(IndexedImages):
    """One split of CIFAR-10 or CIFAR-100 in its authors' Python files, which hold pixels, not encoded images.

    Args:
        source: "cifar10:FOLDER" or "cifar100:FOLDER", with ":test" behind it for the test images.

    Raises:
        As `convit.data.cifar.CifarSamples`.
    """

    kind = "cifar"

    def __init__(self, source: str) -> None:
        self._samples = CifarSamples(source)
        self.name = f"{parse_cifar(source)[0]}:{self._samples.split}"
        super().__init__(self._samples.labels, _classes(self._samples.classes), f"the files of {self.name}")

    def _image(self, place: int) -> LabeledImage:
        return LabeledImage(self._samples.names[place], self._samples.image(place), self._samples.labels[place])

    def identity(self) -> dict[str, Any]:
        """The set's name with its split; name and sha256 of each file of it, and one sha256 over their list."""
        files = [(file.name, file_sha256(file)) for file in self._samples.files]
        return {**identity_of_files(self.kind, files), "name": self.name}


def _classes(names: Sequence[str] | None) -> list[ClassName] | None:
    return None if names is None else [ClassName(name) for name in names]
