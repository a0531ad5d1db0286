"""Where a data set lies: shards by brace pattern, list or folder, or an image folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convit.data.braces import expand_braces

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")


def is_shard(path: str | Path) -> bool:
    """Whether the name ends like a WebDataset shard: .tar, .tar.gz or .tgz."""
    return str(path).lower().endswith(SHARD_SUFFIXES)


def find_shards(source: str | Path | Sequence[str | Path], root: str | Path | None = None) -> list[Path]:
    """The shards that a pattern, a list of patterns or a folder means, each group in sorted order.

    Args:
        source: "train-{000000..000004}.tar.gz", "train-*.tar", one file, a folder of shards, or a list of these.
        root: folder that relative patterns start from; the working folder without it.

    Returns:
        Existing files, without repetition.

    Raises:
        FileNotFoundError: a pattern means no file, or one of the files that a brace pattern lists is absent.
    """
    patterns = [source] if isinstance(source, (str, Path)) else list(source)
    found: dict[Path, None] = {}
    for pattern in patterns:
        for name in expand_braces(str(pattern)):
            path = Path(name) if root is None else Path(root) / name
            matches = _matches(path)
            if not matches:
                raise FileNotFoundError(
                    f"no shard at {path}; name .tar, .tar.gz or .tgz files, or the folder that holds them"
                )
            found.update(dict.fromkeys(matches))
    return list(found)


def _matches(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(child for child in path.iterdir() if child.is_file() and is_shard(child))
    if path.is_file():
        return [path]
    return sorted(match for match in path.parent.glob(path.name) if is_shard(match))


def means_shards(source: str | Path | Sequence[str | Path], root: str | Path | None = None) -> bool:
    """Whether `source` names shards (or a folder with shards in it) rather than an image folder."""
    if not isinstance(source, (str, Path)):
        return True
    path = Path(source) if root is None else Path(root) / source
    if path.is_dir():
        return any(child.is_file() and is_shard(child) for child in path.iterdir())
    return is_shard(source)


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """The class names of a `classes.json`: a list of names, or of objects with `index` and `name`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no JSON list of names.
    """
    try:
        rows: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        if all(isinstance(row, str) for row in rows):
            return tuple(rows)
        return tuple(str(row["name"]) for row in sorted(rows, key=lambda row: int(row["index"])))
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} is no list of class names; write ["cat", "dog"] or [{{"index": 0, "name": "cat"}}]'
        ) from error


def file_sha256(path: str | Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
