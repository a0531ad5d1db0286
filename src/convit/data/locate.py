"""Where a data set lies and what form it has: a folder, files by brace pattern, list or folder, or a name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from convit.data.braces import expand_braces
from convit.data.remote import is_remote, list_remote, read_remote, shown, url_path

Source = str | Path | Sequence[str | Path]
Form = Literal["folder", "shards", "parquet", "hub", "cifar"]

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")
PARQUET_SUFFIXES = (".parquet",)
CLASSES_FILE = "classes.json"

_PREFIXES: dict[str, Form] = {"hub": "hub", "cifar10": "cifar", "cifar100": "cifar"}


def form_of(source: Source, root: str | Path | None = None) -> Form:
    """Which form of data `source` means; `convit.data.open_dataset` lists them. What is nowhere counts as a folder."""
    if not isinstance(source, (str, Path)):
        return "parquet" if source and all(_ends(name, PARQUET_SUFFIXES) for name in source) else "shards"
    prefix = str(source).partition(":")[0]
    if not is_remote(source) and prefix in _PREFIXES and prefix != str(source):
        return _PREFIXES[prefix]
    if _ends(source, PARQUET_SUFFIXES):
        return "parquet"
    place = located(source, root)
    if is_remote(place) or _ends(source, SHARD_SUFFIXES):
        return "shards"
    children = list(Path(place).iterdir()) if Path(place).is_dir() else []
    if any(_ends(child, SHARD_SUFFIXES) and child.is_file() for child in children):
        return "shards"
    if any(_ends(child, PARQUET_SUFFIXES) and child.is_file() for child in children):
        return "parquet"
    return "folder"


def located(name: str | Path, root: str | Path | None = None) -> Path | str:
    """Where a name lies when it starts from `root`: a `Path`, or a URL as a str; a URL starts from itself."""
    if root is None or is_remote(name):
        return str(name) if is_remote(name) else Path(name)
    if is_remote(root):
        return f"{str(root).rstrip('/')}/{Path(name).as_posix()}"
    return Path(root) / name


def means_shards(source: Source, root: str | Path | None = None) -> bool:
    """Whether `source` names shards (or a folder with shards in it), here or behind a URL."""
    return form_of(source, root) == "shards"


def find_shards(source: Source, root: str | Path | None = None) -> list[Path | str]:
    """The shards that a pattern, a list of patterns or a folder means, each group in sorted order.

    Args:
        source: "train-{000000..000004}.tar.gz", "train-*.tar", one file, a folder of shards, a URL of one of these
            ("https://host/train-{000..146}.tar", "s3://bucket/train-*.tar"), or a list of these.
        root: folder or URL that relative patterns start from; the working folder without it.

    Returns:
        A `Path` for each existing file here, a str for each URL, without repetition. Whether a URL that was named in
        full exists is found out when it is read.

    Raises:
        ConnectionError: the server of a remote pattern with * cannot be reached.
        FileNotFoundError: a pattern means no file, or one of the files that a brace pattern lists is absent.
    """
    return _find(source, root, SHARD_SUFFIXES, "shard")


def find_local_shards(source: Source, root: str | Path | None = None) -> list[Path]:
    """As `find_shards`, for readers that need the files here.

    Raises:
        FileNotFoundError: as `find_shards`.
        ValueError: a shard is behind a URL.
    """
    found: list[Path] = []
    for shard in find_shards(source, root):
        if isinstance(shard, str):
            raise ValueError(f"{shown(shard)} is not on this machine; fetch the shards and name the files")
        found.append(shard)
    return found


def find_parquet(source: Source, root: str | Path | None = None) -> list[Path | str]:
    """The Parquet files that a pattern, a list of patterns or a folder means; as `find_shards` finds shards."""
    return _find(source, root, PARQUET_SUFFIXES, "Parquet file")


def _find(source: Source, root: str | Path | None, suffixes: tuple[str, ...], what: str) -> list[Path | str]:
    patterns = [source] if isinstance(source, (str, Path)) else list(source)
    found: dict[Path | str, None] = {}
    for pattern in patterns:
        for name in expand_braces(str(pattern)):
            place = located(name, root)
            matches = _local(place, suffixes) if isinstance(place, Path) else _remote(place, suffixes)
            if not matches:
                raise FileNotFoundError(
                    f"no {what} at {shown(place)}; name {', '.join(suffixes)} files, or the folder that holds them"
                )
            found.update(dict.fromkeys(matches))
    return list(found)


def _local(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if path.is_dir():
        return sorted(child for child in path.iterdir() if child.is_file() and _ends(child, suffixes))
    if path.is_file():
        return [path]
    return sorted(match for match in path.parent.glob(path.name) if _ends(match, suffixes))


def _remote(url: str, suffixes: tuple[str, ...]) -> list[str]:
    named = _ends(url, suffixes)
    if named and "*" not in url_path(url):
        return [url]
    return [match for match in list_remote(url if named else url.rstrip("/") + "/*") if _ends(match, suffixes)]


def _ends(name: str | Path, suffixes: tuple[str, ...]) -> bool:
    return (url_path(str(name)) if is_remote(name) else str(name)).lower().endswith(suffixes)


def class_names_beside(file: Path | str) -> tuple[str, ...] | None:
    """The class names of the `classes.json` beside a file or a URL; None where there is none.

    Raises:
        ConnectionError: the server of a URL cannot be reached.
        ValueError: it is no JSON list of names.
    """
    found = classes_file_beside(file)
    return None if found is None else _parse_class_names(found[1], found[0])


def classes_file_beside(file: Path | str) -> tuple[str, bytes] | None:
    """Where the `classes.json` beside a file or a URL lies, as messages show it, and its content; None without one.

    Raises:
        ConnectionError: the server of a URL cannot be reached.
    """
    if isinstance(file, str):
        beside = f"{file.partition('?')[0].rpartition('/')[0]}/{CLASSES_FILE}"
        try:
            return shown(beside), read_remote(beside)
        except (FileNotFoundError, PermissionError):  # some stores refuse what they do not have
            return None
    path = file.parent / CLASSES_FILE
    return (str(path), path.read_bytes()) if path.is_file() else None


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """The class names of a `classes.json`: a list of names, or of objects with `index` and `name`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no JSON list of names.
    """
    return _parse_class_names(Path(path).read_bytes(), path)


def _parse_class_names(content: bytes, path: str | Path) -> tuple[str, ...]:
    try:
        rows: Any = json.loads(content)
        if all(isinstance(row, str) for row in rows):
            return tuple(rows)
        return tuple(str(row["name"]) for row in sorted(rows, key=lambda row: int(row["index"])))
    except (KeyError, TypeError, ValueError) as error:  # broken JSON and broken UTF-8 are ValueErrors
        raise ValueError(
            f'{path} is no list of class names; write ["cat", "dog"] or [{{"index": 0, "name": "cat"}}]'
        ) from error


def file_sha256(path: str | Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
