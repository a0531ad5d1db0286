"""Which pictures a path or a folder stands for."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"),
    *(".jp2", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
)
"""Suffixes (any case) by which folders are searched."""


def find_images(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], recursive: bool = True) -> list[Path]:
    """List the pictures that some paths stand for.

    Files are kept whatever they are called. Folders give the files with one of `IMAGE_SUFFIXES`, sorted by name at
    each level, without hidden ones (a name that starts with a dot). Links to folders are followed, but no folder is
    searched twice, so that loops end. A link that leads nowhere is listed, so that its picture is missed.

    Args:
        paths: one path or several; the order is kept.
        recursive: whether folders within folders are searched.

    Returns:
        The paths of the pictures, in an order that stays the same from run to run.

    Raises:
        FileNotFoundError: a path does not exist.
        PermissionError: a folder must not be read.
        ValueError: no path was given, one is empty, or no picture was found; then the message names the suffixes.
    """
    named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not named or not all(os.fspath(path) for path in named):
        raise ValueError("no path was given, or an empty one; name at least one picture or folder")
    given = [Path(path) for path in named]
    others: Counter[str] = Counter()
    found: list[Path] = []
    for path in given:
        if _is_folder(path):
            found.extend(_search(path, recursive, others))
        elif os.path.lexists(path):
            found.append(path)
        else:
            raise FileNotFoundError(f"{path}: there is no such file or folder; check the path")
    if not found:
        raise ValueError(f"{', '.join(map(str, given))}: {_explain_none(others, recursive)}")
    return found


def _search(root: Path, recursive: bool, others: Counter[str]) -> Iterator[Path]:
    searched: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        path = waiting.pop()
        if not _is_folder(path):
            yield path
            continue
        status = path.stat()
        if (status.st_dev, status.st_ino) in searched:
            continue
        searched.add((status.st_dev, status.st_ino))
        wanted: list[Path] = []
        for entry in _list_folder(path):
            suffix = entry.suffix.lower()
            is_folder = _is_folder(entry)
            if (is_folder and recursive) or (not is_folder and suffix in IMAGE_SUFFIXES):
                wanted.append(entry)
            else:
                others["folders" if is_folder else suffix or "no suffix"] += 1
        waiting.extend(reversed(wanted))


def _list_folder(folder: Path) -> list[Path]:
    try:
        return sorted(
            (entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda entry: entry.name
        )
    except PermissionError:
        raise PermissionError(f"{folder}: there is no permission to read this folder; change its mode") from None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, or a folder above that must not be read
        return False


def _explain_none(others: Counter[str], recursive: bool) -> str:
    seen = ", ".join(f"{count} with {suffix}" for suffix, count in others.most_common(3) if suffix != "folders")
    inside = "" if recursive or not others["folders"] else "; folders inside it are searched with recursive=True"
    return f"no pictures found{f' (but {seen})' if seen else ''}; looked for {' '.join(IMAGE_SUFFIXES)}{inside}"
