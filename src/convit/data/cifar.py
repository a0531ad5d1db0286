"""CIFAR-10 and CIFAR-100 in their authors' Python files, through torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
PLACES = {"cifar10": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"}
PLACES["cifar100"] = PLACES["cifar10"].replace("10", "100")
SPLITS = ("train", "test")


class CifarSamples:
    """One split of CIFAR-10 or CIFAR-100, decoded in memory.

    Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.

    Args:
        source: "cifar10:FOLDER" or "cifar100:FOLDER", with ":test" behind it for the test images; FOLDER holds the
            unpacked `cifar-10-batches-py` or `cifar-100-python`.
        root: folder that a relative FOLDER starts from.
        classes: class names in the model's order, to which CIFAR's are matched.

    Raises:
        FileNotFoundError: the files are not there.
        ValueError: the files are damaged, or a class is none of `classes`.
    """

    def __init__(self, source: str, *, root: str | Path | None = None, classes: Sequence[str] | None = None) -> None:
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
        self.split = split
        names = tuple(known.classes)
        self.classes = names if classes is None else tuple(classes)
        unknown = sorted(set(names) - set(self.classes))
        if unknown:
            raise ValueError(
                f"{kind}'s class {unknown[0]!r} is none of the {len(self.classes)} known classes; leave the list of "
                f"classes away, or name them as CIFAR does"
            )
        order = [self.classes.index(name) for name in names]
        self.labels = [order[number] for number in known.targets]
        self.names = [f"{kind} {split} {index}" for index in range(len(self.labels))]

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """The RGB image."""
        return Image.fromarray(self._pixels[index])


def parse_cifar(source: str, root: str | Path | None = None) -> tuple[str, Path, str]:
    """(data set, folder with its files, split) of "cifar10:FOLDER" or "cifar10:FOLDER:test".

    FOLDER may be the one with the files or the one around it.

    >>> parse_cifar("cifar10:data:test")
    ('cifar10', PosixPath('data/cifar-10-batches-py'), 'test')
    """
    kind, _, place = source.partition(":")
    before, _, last = place.rpartition(":")
    place, split = (before, last) if last in SPLITS and f":{last}" in source else (place, "train")
    place = Path(place).expanduser()  # no shell does that behind a colon
    folder = place if root is None else Path(root) / place
    return kind, folder if folder.name == FOLDERS[kind] else folder / FOLDERS[kind], split
