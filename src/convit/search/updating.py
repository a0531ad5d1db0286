"""Carrying out an update: rows of new and changed images, kept every few seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convit.output.rows import Embedding
from convit.search.scanning import Described, Plan, describe, label_of
from convit.search.store import FileRow, Store

COMMIT_SECONDS = 5.0
_log = logging.getLogger(__name__)
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
        is_approximate: whether there are so many images that searches are approximate from now on.
    """

    new: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    unreadable: dict[str, str] = field(default_factory=dict[str, str])
    is_approximate: bool = False


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

    Args:
        plan: what is to be done.
        root: the folder.
        store: the rows.
        embed: gives one embedding per (tag, path), in order, with its tag.
        commit_every: images after which the rows are kept, at the latest.
        advance: called after each image.

    Raises:
        OSError: the store cannot be written.
        ValueError: it is damaged.
        Whatever else ends it, such as Ctrl-C; what was embedded by then is kept.
    """
    done = Update(new=plan.new, unchanged=plan.unchanged, unreadable=dict(plan.unreadable))
    gone = list(plan.gone)
    store.touch(plan.touched)
    known = store.files() if len(plan.embed) > plan.new else {}
    held: list[dict[str, Any]] = []
    last = time.monotonic()
    try:
        for row, error in _rows(plan.embed, root, embed):
            path = row["path"]
            if error is None:
                held.append(row)
                done.changed += path in known
            else:
                done.unreadable[path] = error
                done.new -= path not in known
                gone += [path] if path in known else []  # what it holds now has no vector
            if advance is not None:
                advance()
            if len(held) >= commit_every or time.monotonic() - last > COMMIT_SECONDS:
                store.put(held)
                held, last = [], time.monotonic()
    except BaseException:
        store.put(held)
        _log.warning("interrupted; what was embedded is kept: index again to go on")
        raise
    store.put(held)
    store.remove(gone)
    done.removed = len(gone)
    return done


def _rows(files: dict[str, FileRow], root: Path, embed: Embed) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Rows of new and changed files, and what is wrong with those that cannot be read."""
    # hashed before it is embedded: a file that is written meanwhile counts as changed next time
    described = (((path, file, describe(root / path)), root / path) for path, file in files.items())
    for (path, file, about), result in embed(described):
        row = {
            "path": path,
            "sha256": about.sha256,
            "size": file.size,
            "mtime_ns": file.mtime_ns,
            "width": about.width,
            "height": about.height,
            "label": label_of(path),
            "vector": result.values,
        }
        yield row, result.error
