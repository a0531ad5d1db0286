"""Labelled images, one after the other: folders with a sub-folder per class, and WebDataset shards."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from convit.data.folders import FolderSamples
from convit.data.locate import file_sha256, means_shards
from convit.data.locate import find_local_shards as find_shards
from convit.data.shards import read_shard


@dataclass(frozen=True)
class LabelledImage:
    """One image as it is stored.

    Attributes:
        name: path within the folder, or key within the shard.
        content: the encoded file, or the path of one that could not be read.
        label: number of its class in the data's own counting.
    """

    name: str
    content: bytes | Path
    label: int


@dataclass(frozen=True)
class ClassName:
    """What the data call a class.

    Attributes:
        name: its name.
        wnid: its WordNet id, where the data give one.
    """

    name: str
    wnid: str | None = None


class LabelledImages(Protocol):
    """A data set that can be read from its start again.

    Attributes:
        kind: how it is stored.
        count: number of images.
        labels: the labels that occur, ascending.
        classes: what each label means, by number; None where the data do not say.
        source: what names the classes, for messages.
    """

    kind: Literal["folder", "shards"]
    count: int
    labels: Sequence[int]
    classes: Sequence[ClassName] | None
    source: str

    def __iter__(self) -> Iterator[LabelledImage]: ...

    def identity(self) -> dict[str, Any]:
        """What was read, by name and sha256; complete only after an iteration to the end."""
        ...


class LabelledFolder:
    """A folder with one sub-folder per class; images may lie deeper inside these.

    Args:
        folder: the folder.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no class sub-folder, or one of them holds no image.
    """

    kind: Literal["folder", "shards"] = "folder"

    def __init__(self, folder: Path) -> None:
        samples = FolderSamples(folder)
        self.folder = folder
        self.source = f"the sub-folders of {folder}"
        self.classes: Sequence[ClassName] | None = [ClassName(name) for name in samples.classes]
        self.count = len(samples)
        self.labels: Sequence[int] = range(len(samples.classes))
        self._items = [(Path(name), label) for name, label in zip(samples.names, samples.labels, strict=True)]
        self._digest = ""

    def __iter__(self) -> Iterator[LabelledImage]:
        """Read the images in the order of their classes and paths.

        A file that cannot be read comes as its path: whoever opens it will say why, as of a damaged one.
        """
        listing = hashlib.sha256()
        for path, label in self._items:
            name = path.relative_to(self.folder).as_posix()
            content: bytes | Path
            try:
                content = path.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
            except OSError:
                content, digest = path, "unreadable"
            listing.update(f"{digest}  {name}\n".encode())
            yield LabelledImage(name, content, label)
        self._digest = listing.hexdigest()

    def identity(self) -> dict[str, Any]:
        """The folder's name, and one sha256 over the lines "sha256  path" of all its images in reading order."""
        return {"kind": self.kind, "name": self.folder.resolve().name, "sha256": self._digest}


class LabelledShards:
    """WebDataset shards: tar files of `<key>.jpg` (or another image suffix) and `<key>.cls` with the label's number.

    They are read through once here, so that a damaged shard or a wrong label is found before a model is loaded. A
    `classes.json` beside the first shard (a list of names, or of objects with `index`, `name` and perhaps `wnid`) says
    what the labels mean.

    Args:
        shards: the files.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is no tar archive or is cut off, a sample lacks image or label, a label is negative, or
            `classes.json` is no list of classes.
    """

    kind: Literal["folder", "shards"] = "shards"

    def __init__(self, shards: Sequence[Path]) -> None:
        self.shards = tuple(shards)
        self.count = 0
        seen: set[int] = set()
        for image in self:
            if image.label < 0:
                raise ValueError(f"sample {image.name!r} has the label {image.label}, but labels count from 0")
            self.count += 1
            seen.add(image.label)
        if not self.count:
            raise ValueError(f"{', '.join(map(str, shards))} hold no sample; name shards with <key>.jpg and <key>.cls")
        self.labels: Sequence[int] = sorted(seen)
        names = self.shards[0].parent / "classes.json"
        self.source = str(names)
        self.classes: Sequence[ClassName] | None = _read_classes(names) if names.is_file() else None

    def __iter__(self) -> Iterator[LabelledImage]:
        """Read the samples in the order of the files."""
        for shard in self.shards:
            for key, content, label in read_shard(shard):
                yield LabelledImage(key, content, label)

    def identity(self) -> dict[str, Any]:
        """Name and sha256 of each shard, and of them all: the shard's own where there is one, else over their list."""
        files = [{"name": shard.name, "sha256": file_sha256(shard)} for shard in self.shards]
        listing = "".join(f"{file['sha256']}  {file['name']}\n" for file in files)
        whole = files[0]["sha256"] if len(files) == 1 else hashlib.sha256(listing.encode()).hexdigest()
        return {"kind": self.kind, "files": files, "sha256": whole}


def open_labelled(data: str | Path | Sequence[str | Path]) -> LabelledImages:
    """Open labelled images, whatever they are stored in.

    Args:
        data: a folder with a sub-folder per class; a shard (.tar, .tar.gz, .tgz), a pattern of shards
            ("val-{000..004}.tar", "val-*.tar"), a folder of shards, or a list of these.

    Returns:
        The images, which can be read more than once, in an order that stays the same.

    Raises:
        FileNotFoundError: there is nothing there.
        ValueError: a folder has no class sub-folders, or a shard is damaged.
    """
    if means_shards(data) or (isinstance(data, str | Path) and any(sign in str(data) for sign in "*{")):
        return LabelledShards(find_shards(data))
    folder = Path(cast("str | Path", data))
    if folder.is_file():
        raise ValueError(
            f"{folder} is neither a folder with a sub-folder per class nor a shard (.tar, .tar.gz); name one of these"
        )
    return LabelledFolder(folder)


def _read_classes(path: Path) -> list[ClassName]:
    try:
        rows: Any = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not rows:
            raise ValueError("it holds no list")
        if all(isinstance(row, str) for row in rows):
            return [ClassName(row) for row in rows]
        rows.sort(key=lambda row: int(row["index"]))
        if [int(row["index"]) for row in rows] != list(range(len(rows))):
            raise ValueError("its indices do not count from 0 without gaps")
        return [ClassName(str(row["name"]), row.get("wnid")) for row in rows]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f'{path} is no list of classes ({error}); write ["cat", "dog"] or [{{"index": 0, "name": "cat"}}], '
            "or remove it where the labels are the model's own"
        ) from error
