"""Bringing an index up to date with its images: what is new, changed or gone, and the rows kept every few seconds."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from convit.images import ImageError
from convit.images.names import path_text, text_path
from convit.images.opening import image_size, read_bytes
from convit.output.rows import Embedding
from convit.search.listing import Files
from convit.search.store import FileRow, Store

COMMIT_SECONDS = 5.0
_log = logging.getLogger(__name__)


class Described(NamedTuple):
    """A file as it was read: its hash, and its (width, height) upright; zeros where that cannot be told."""

    sha256: str
    width: int
    height: int


About = tuple[str, FileRow, Described]
Embed = Callable[[Iterable[tuple[About, Path]]], Iterator[tuple[About, Embedding]]]


@dataclass
class Update:
    """What an update did.

    Attributes:
        new: images added.
        changed: images whose content is another than before.
        removed: images that left: deleted, or no longer readable.
        unchanged: images that were not read again, or only hashed.
        unreadable: path → one line that says what is wrong; such images are not in the index.
        left_out: what the folder holds besides images, by suffix, see `convit.images.listing.describe_left_out`.
        is_approximate: whether there are so many images that searches are approximate from now on.
    """

    new: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    unreadable: dict[str, str] = field(default_factory=dict[str, str])
    left_out: Counter[str] = field(default_factory=Counter[str])
    is_approximate: bool = False


@dataclass
class Plan:
    """What has to be done.

    Attributes:
        embed: path → size, time and label of files that are new or have another content; no sha256 yet.
        changed: those among them that the index knows.
        touched: path → what is new of files with the same content: size, time or label.
        gone: paths whose files are no longer there, or no longer listed.
        done: what is known beforehand: the unchanged images.
    """

    embed: dict[str, FileRow] = field(default_factory=dict[str, FileRow])
    changed: set[str] = field(default_factory=set[str])
    touched: dict[str, FileRow] = field(default_factory=dict[str, FileRow])
    gone: list[str] = field(default_factory=list[str])
    done: Update = field(default_factory=Update)


def plan_update(files: Files, known: Mapping[str, FileRow]) -> Plan:
    """Compare files with what an index knows: size and time first, the content only where these differ."""
    plan, seen = Plan(), set[str]()
    for name, label in files.images:
        path, file = path_text(name), files.root / name
        try:
            status = file.stat()
            size, mtime_ns = status.st_size, status.st_mtime_ns
        except OSError:  # a broken link, say: the embedder says what is wrong with it
            size = mtime_ns = 0
        seen.add(path)
        valid = label and label.encode("utf-8", "backslashreplace").decode()
        now, before = FileRow("", size, mtime_ns, valid), known.get(path)
        if before is not None and before[1:] == now[1:]:
            plan.done.unchanged += 1
        elif (
            before is not None
            and before.size == now.size
            and (before.mtime_ns == now.mtime_ns or describe(file).sha256 == before.sha256)
        ):
            plan.touched[path] = now
            plan.done.unchanged += 1
        else:
            plan.embed[path] = now
            plan.changed |= set() if before is None else {path}
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


def carry_out(
    plan: Plan,
    root: Path,
    store: Store,
    embed: Embed,
    *,
    commit_every: int,
    advance: Callable[[], None] | None = None,
) -> Update:
    """Bring a store up to date; what was embedded is kept every few seconds, and rows leave last.

    What was embedded before an error or Ctrl-C is kept. Paths start from `root`; `embed` gives one embedding per (tag,
    path), in order, with its tag; rows are kept after `commit_every` images at the latest.
    """
    done, gone = plan.done, list(plan.gone)
    store.touch(plan.touched)
    held: list[dict[str, Any]] = []
    last = time.monotonic()
    # hashed before it is embedded: a file that is written meanwhile counts as changed next time
    places = ((path, file, root / text_path(path)) for path, file in plan.embed.items())
    described = (((path, file, describe(place)), place) for path, file, place in places)
    try:
        for (path, file, about), result in embed(described):
            is_known = path in plan.changed
            if result.error is None:
                held.append({"path": path, **file._asdict(), **about._asdict(), "vector": result.values})
                done.changed += is_known
                done.new += not is_known
            else:
                done.unreadable[path] = result.error
                gone += [path] if is_known else []  # what it holds now has no vector
            if advance is not None:
                advance()
            if len(held) >= commit_every or time.monotonic() - last > COMMIT_SECONDS:
                store.put(held)
                held, last = [], time.monotonic()
    except BaseException as error:
        store.put(held)
        error.add_note("what was embedded is kept: index again to go on")
        raise
    store.put(held)
    store.remove(gone)
    done.removed = len(gone)
    return done
