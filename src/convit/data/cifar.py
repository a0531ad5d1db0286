"""CIFAR-10 and CIFAR-100 in their authors' Python files, through torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from convit.data.classes import named
from convit.data.identity import identity_of_files
from convit.data.locate import Source
from convit.data.samples import Samples
from convit.data.splits import SplitError, spellings, with_split
from convit.output.files import hash_file

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
PLACES = {kind: f"https://www.cs.toronto.edu/~kriz/cifar-{kind[5:]}-python.tar.gz" for kind in FOLDERS}
SPLITS = ("train", "test")


class CifarSamples(Samples):
    """One split of CIFAR-10 or CIFAR-100, decoded in memory; `source` and `root` are as `parse_cifar` reads them.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
    """

    kind = "cifar"

    def __init__(self, source: str, *, root: str | Path | None = None) -> None:
        from torchvision.datasets import CIFAR10, CIFAR100

        kind, folder, split = parse_cifar(source, root)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"there is no folder {folder}; unpack {PLACES[kind]} and give the folder that holds {FOLDERS[kind]}"
            )
        try:
            known: Any = {"cifar10": CIFAR10, "cifar100": CIFAR100}[kind](
                folder.parent, train=split == "train", download=False
            )
        except RuntimeError as error:  # torchvision compares each file's md5
            raise ValueError(f"a file in {folder} is missing or damaged; unpack {PLACES[kind]} again") from error
        self._pixels: np.ndarray = known.data
        listed = [name for name, _ in (known.train_list if split == "train" else known.test_list)]
        self.files = [folder / name for name in (*listed, known.meta["filename"])]  # that were read, and checked
        self.name = f"{kind}:{split}"
        names = [f"{kind} {split} {index}" for index in range(len(known.targets))]
        super().__init__(list(known.targets), names, named(known.classes), f"the files of {self.name}")

    def stored(self, index: int) -> Image.Image:
        """The RGB image."""
        return Image.fromarray(self._pixels[index])

    def identity(self) -> dict[str, Any]:
        """The set's name with its split; name and sha256 of each file of it, and one sha256 over their list."""
        files = [(file.name, hash_file(file)) for file in self.files]
        return {**identity_of_files(self.kind, files), "name": self.name}


def open_source(source: Source, *, root: str | Path | None, split: str | None, in_memory: bool) -> Samples:
    """Open CIFAR's files; it is split as its authors split it."""
    name, last = str(source), str(source).rpartition(":")[2]
    if split is not None:
        asked = next((each for each in spellings(split) if each in SPLITS), None)
        if asked is None:
            raise SplitError(f"{source} has no split {split!r}; it has {', '.join(SPLITS)}")
        name = with_split(name, asked, last if last in SPLITS and name.count(":") > 1 else "")
    return CifarSamples(name, root=root)


def parse_cifar(source: str, root: str | Path | None = None) -> tuple[str, Path, str]:
    """(data set, folder with its files, split) of "cifar10:FOLDER" or "cifar10:FOLDER:test".

    FOLDER, which starts from `root`, is the unpacked `cifar-10-batches-py` (`cifar-100-python`) or the one around it.

    >>> parse_cifar("cifar10:data:test")
    ('cifar10', PosixPath('data/cifar-10-batches-py'), 'test')
    """
    kind, _, place = source.partition(":")
    before, _, last = place.rpartition(":")
    place, split = (before, last) if last in SPLITS and f":{last}" in source else (place, "train")
    place = Path(place).expanduser()  # no shell does that behind a colon
    folder = place if root is None else Path(root) / place
    return kind, folder if folder.name == FOLDERS[kind] else folder / FOLDERS[kind], split
