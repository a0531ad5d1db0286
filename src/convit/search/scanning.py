"""What has to be done to bring an index up to date with its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from convit.data.splits import part_of
from convit.images import ImageError, find_images, source_name
from convit.images.opening import image_size, read_bytes
from convit.search.store import FileRow


class Described(NamedTuple):
    """A file as it was read: its hash, and its (width, height) upright; zeros where that cannot be told."""

    sha256: str
    width: int
    height: int


@dataclass
class Plan:
    """What is new, changed or gone.

    Attributes:
        embed: relative path → size and time of files that are new or have another content; no sha256 yet.
        new: how many of these the index does not know.
        touched: path → new size and time of files that were written again with the same content.
        gone: paths whose files are no longer there.
        unchanged: how many files are as they were.
        unreadable: path → problem of what cannot be looked at.
    """

    embed: dict[str, FileRow] = field(default_factory=dict[str, FileRow])
    new: int = 0
    touched: dict[str, FileRow] = field(default_factory=dict[str, FileRow])
    gone: list[str] = field(default_factory=list[str])
    unchanged: int = 0
    unreadable: dict[str, str] = field(default_factory=dict[str, str])


def plan_update(root: Path, known: Mapping[str, FileRow]) -> Plan:
    """Compare a folder with what an index knows: size and time first, the content only where these differ.

    Args:
        root: the folder.
        known: the index's rows.

    Raises:
        FileNotFoundError, PermissionError, ValueError: as `find_images`.
    """
    plan, seen = Plan(), set[str]()
    for file in find_images(root):
        path = file.relative_to(root).as_posix()
        try:
            path.encode()
            status = file.stat()
        except UnicodeEncodeError:
            plan.unreadable[source_name(path)] = "its name is no UTF-8; rename it"
            continue
        except OSError as error:
            plan.unreadable[path] = f"cannot be read ({error.strerror}); check the path and the disk"
            continue
        seen.add(path)
        now, before = FileRow("", status.st_size, status.st_mtime_ns), known.get(path)
        if before is None:
            plan.embed[path] = now
            plan.new += 1
        elif before[1:] == now[1:]:
            plan.unchanged += 1
        elif before.size == now.size and describe(file).sha256 == before.sha256:
            plan.touched[path] = now
            plan.unchanged += 1
        else:
            plan.embed[path] = now
    plan.gone = [path for path in known if path not in seen]
    return plan


def describe(file: Path) -> Described:
    """Hash a file and read its header; an unreadable one gives what can be told."""
    sha256 = ""
    try:
        content = read_bytes(file)
        sha256 = hashlib.sha256(content).hexdigest()
        return Described(sha256, *image_size(content, file.name))
    except ImageError:  # the embedder says what is wrong with the image
        return Described(sha256, 0, 0)


def label_of(path: str) -> str | None:
    """The class folder that an image lies in, as evaluation and training see it: the topmost one below a part.

    >>> label_of("train/cat/1.jpg"), label_of("cat/close/1.jpg"), label_of("1.jpg")
    ('cat', 'cat', None)
    """
    return next((folder for folder in path.split("/")[:-1] if part_of(folder) is None), None)


def split_of(path: str) -> str | None:
    """The part of a data set that a path begins with, None for others.

    >>> split_of("Training/cat/1.jpg"), split_of("cat/close/1.jpg")
    ('Training', None)
    """
    first, *below = path.split("/")
    return first if below and part_of(first) else None


def reader_of(file: Path) -> Callable[[], bytes]:
    """A function that reads a picture's file; it raises `ImageError` where that has gone."""
    return lambda: read_bytes(file)
