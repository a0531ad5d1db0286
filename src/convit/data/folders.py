"""Images in files of their own: a folder with one sub-folder per class."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from convit.data.classes import ClassName, named, number_labels
from convit.data.identity import OF_LISTING, ContentDigests, hash_line, sha256_of_lines
from convit.data.locate import Source, kind_named, located
from convit.data.samples import Samples
from convit.images import find_images
from convit.images.listing import describe_left_out, is_folder, list_folder
from convit.images.lists import ImageList, is_list, read_list
from convit.images.names import not_found
from convit.output.files import hash_file

_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,18})")  # 01 is a name
_log = logging.getLogger(__name__)


class LabeledFiles(Samples):
    """Images in files, with labels that come from elsewhere.

    Args:
        folder: what the names start from.
        names: path of each image within the folder, with forward slashes.
        labels: its label, a place in `classes`.
        classes: what each label means.
        source: what names the classes, for messages.
        accepted: all labels that count as right for each image, where there are several.
        label_file: the file that says the labels, where the paths do not.
        about: what `identity` tells besides.
    """

    kind = "folder"

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        labels: Sequence[int],
        *,
        classes: Sequence[ClassName] | None,
        source: str,
        accepted: Sequence[tuple[int, ...]] = (),
        label_file: Path | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(labels, names, classes, source)
        self.folder, self.accepted = folder, accepted
        self._label_file, self._about = label_file, dict(about or {})
        self.digests = ContentDigests(len(labels))

    def stored(self, index: int) -> Path:
        """The path of an image."""
        return self.folder / self.names[index]

    def where(self, index: int) -> str:
        """The path of an image."""
        return str(self.stored(index))

    def identity(self) -> dict[str, Any]:
        """The folder's name, and one sha256 over the lines "sha256  path" of all its images in reading order.

        Where a file says the labels, its line stands behind these.
        """
        found: dict[str, Any] = {"kind": self.kind, "name": self.folder.resolve().name, **self._about}
        labels = self._labels()
        if labels:
            found["labels"] = labels
        return {**found, "sha256": _sha256(self._digest_lines(self.names), labels)}

    def stat(self, index: int) -> tuple[int, int]:
        """Bytes of an image's file and when it changed, in nanoseconds since 1970; (-1, 0) of one that is not there."""
        try:
            found = self.stored(index).stat()
        except OSError:
            return -1, 0
        return found.st_size, found.st_mtime_ns

    def listing(self) -> str:
        """What the data are, no image read: a sha256 over the lines "bytes  path", and when the newest image changed.

        A file that is not there has -1 bytes. Where a file says the labels, its line is that of `identity`.
        """
        stats = [self.stat(index) for index in range(len(self))]
        lines = [hash_line(str(size), name) for (size, _), name in zip(stats, self.names, strict=True)]
        whole = _sha256(lines, self._labels())
        # datetime ends with the year 9999, but damaged times of files do not
        newest = np.datetime64(max((time for _, time in stats), default=0) // 10**6, "ms")
        return f"{whole}{OF_LISTING}{newest}+00:00"

    def _labels(self) -> dict[str, str]:
        """Name and sha256 of the file that says the labels; empty where none does."""
        file = self._label_file
        return {} if file is None else {"name": file.name, "sha256": hash_file(file)}


def _sha256(lines: Iterable[bytes], labels: Mapping[str, str]) -> str:
    """Over the lines of images, and behind them that of the file that says the labels."""
    return sha256_of_lines(chain(lines, [hash_line(labels["sha256"], labels["name"])] if labels else ()))


class FolderSamples(LabeledFiles):
    """A folder with one sub-folder per class, numbered in sorted order; images may lie deeper inside these.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no class sub-folder, one of them holds no image, or an image lies in none of them.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise not_found(folder, f"there is no folder {folder}; give the folder whose sub-folders are the classes")
        classes = [child.name for child in list_folder(folder) if is_folder(child)]
        if not classes:
            tables = (child for child in list_folder(folder) if child.suffix.lower() in (".csv", ".tsv"))
            listed = f"name the list {table}" if (table := next(tables, None)) else "give a .csv of images and labels"
            raise ValueError(
                f"{folder} has no class sub-folders; put the images of each class into a folder of its own, or {listed}"
            )
        left_out = Counter[str]()
        images = find_images(folder, or_none=True, left_out=left_out)
        names = [path.relative_to(folder).as_posix() for path in images]
        if left_out:
            _log.info("%s: %s", folder, describe_left_out(left_out))
        loose = [name for name in names if "/" not in name]
        if loose:
            raise ValueError(
                f"images in {folder} are in no class ({loose[0]}, {len(loose)} in all); put each into the sub-folder "
                "of its class, or move it out"
            )
        numbers = {name: number for number, name in enumerate(classes)}
        labels = [numbers[name.partition("/")[0]] for name in names]
        empty = sorted(set(range(len(classes))) - set(labels))
        if empty:
            raise ValueError(f"the class folder {folder / classes[empty[0]]} holds no image; fill it or remove it")
        source = f"the sub-folders of {folder}"
        super().__init__(folder, names, labels, classes=list(map(ClassName, classes)), source=source)


def open_source(source: Source, *, root: str | Path | None, split: str | None, in_memory: bool) -> Samples:
    """Open a folder of class folders; what is not a folder is named for what it is."""
    assert isinstance(source, str | Path)
    folder = Path(located(source, root))
    if is_list(folder):
        return open_list(read_list(source, root or ""))
    name, colon, _ = str(source).partition(":")
    relatives = kind_named("imagenet").prefixes
    if colon and name.startswith("imagenet-") and not folder.exists():
        raise ValueError(f"{name!r} is none of ImageNet's relatives that are known by name: {', '.join(relatives)}")
    if folder.is_file():
        raise ValueError(
            f"{folder} is neither a folder with a sub-folder per class nor a shard (.tar, .tar.gz) nor a Parquet file "
            "nor a list (.csv); name one of these"
        )
    return FolderSamples(folder)


def open_list(listed: ImageList) -> LabeledFiles:
    """Open the images of a list with their labels: names, or whole numbers as `number_labels` takes them.

    An image that is named again with the same label counts once: it must not be trained on and validated with.

    Raises:
        ValueError: it has no labels, or an image has two.
    """
    if listed.labels is None:
        raise ValueError(f"{listed.file} names images without their labels; give a .csv with columns image and label")
    once = listed.distinct()
    written = once.labels or []
    are_numbers = all(_NUMBER.fullmatch(label) for label in written)
    labels, classes = number_labels([int(label) for label in written] if are_numbers else written)
    samples = LabeledFiles(
        listed.folder,
        once.names,
        labels,
        classes=named(classes),
        source=f"the labels of {listed.file}",
        label_file=listed.file,
        about={"name": listed.file.name},
    )
    samples.kind = "list"
    return samples
