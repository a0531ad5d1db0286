"""Which images a path or a folder stands for."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from convit.images.formats import IMAGE_SUFFIXES, needed_package
from convit.images.lists import is_list, read_list
from convit.images.names import escaped, given_path, remedy_for

_SHOWN = 6  # kinds of files that are left out
_SKIPPED = ("__macosx", "@eadir", "thumbs.db")  # beside what starts with a dot: .DS_Store, ._x.jpg, .ipynb_checkpoints


def find_images(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    recursive: bool = True,
    *,
    or_none: bool = False,
    left_out: Counter[str] | None = None,
    suffixes: Iterable[str] = IMAGE_SUFFIXES,
) -> list[Path]:
    """List the images that some paths stand for.

    Lists stand for the images that they name (see `convit.images.lists`); other files are kept whatever they are
    called. Folders give the files with one of `IMAGE_SUFFIXES`, sorted by name at each level, without hidden ones (a
    name that starts with a dot). Links to folders are followed, but no folder is searched twice, so that loops end. A
    link that leads nowhere is listed, so that its image is missed.

    Args:
        paths: one path or several; the order is kept.
        recursive: whether folders within folders are searched.
        or_none: whether an empty list is given where no image was found, rather than an error.
        left_out: counts the files of the folders that are not images that can be read, by suffix, and `__MACOSX` and
            its kin; not what systems hide (`.DS_Store`, `Thumbs.db`). `describe_left_out` says it in a line.
        suffixes: which files of folders are listed.

    Returns:
        The paths of the images, in an order that stays the same from run to run.

    Raises:
        FileNotFoundError: a path does not exist.
        PermissionError: a folder must not be read.
        ValueError: no path was given, one is empty, or no image was found; then the message names the suffixes.
    """
    named = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not named or not all(os.fspath(path) for path in named):
        raise ValueError("no path was given, or an empty one; name at least one image or folder")
    given = [given_path(path) for path in named]
    others = Counter[str]() if left_out is None else left_out
    found: list[Path] = []
    for path in given:
        if is_folder(path):
            found.extend(_search(path, recursive, others, tuple(suffixes)))
        elif is_list(path):
            listed = read_list(path)
            found.extend(listed.folder / name for name in listed.names)
        elif os.path.lexists(path):
            found.append(path)
        else:
            raise FileNotFoundError(f"{path}: no such file or folder; {remedy_for(path)}")
    if not found and not or_none:
        raise ValueError(f"{', '.join(map(str, given))}: {_explain_none(others, recursive)}")
    return found


def _search(root: Path, recursive: bool, others: Counter[str], suffixes: tuple[str, ...]) -> Iterator[Path]:
    searched: set[tuple[int, int]] = set()
    waiting = [(root, True)]
    while waiting:
        path, leads_on = waiting.pop()
        if not leads_on:
            yield path
            continue
        status = path.stat()
        if (status.st_dev, status.st_ino) in searched:
            continue
        searched.add((status.st_dev, status.st_ino))
        wanted: list[tuple[Path, bool]] = []
        for entry in _children(path):
            leads_on = is_folder(entry)
            if is_hidden(entry.name):
                if leads_on and not entry.name.startswith("."):
                    others[entry.name] += 1
            elif (leads_on and recursive) or (not leads_on and entry.name.lower().endswith(suffixes)):
                wanted.append((entry, leads_on))
            else:
                others["folders" if leads_on else entry.suffix.lower() or "no suffix"] += 1
        waiting.extend(reversed(wanted))


def list_folder(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name, without what is hidden or left behind by systems (`__MACOSX`).

    Raises:
        PermissionError: the folder must not be read.
    """
    return [child for child in _children(folder) if not is_hidden(child.name)]


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda child: child.name)
    except PermissionError:
        raise PermissionError(f"{folder}: there is no permission to read this folder; change its mode") from None


def describe_left_out(left_out: Counter[str]) -> str:
    """What `find_images` left out, in one line, the most frequent first; empty if that is nothing.

    >>> describe_left_out(Counter({".mp4": 2, ".webm": 1, "__MACOSX": 1}))
    'left out: 2 .mp4, 1 .webm, 1 __MACOSX'
    """
    shown = [f"{count:,} {escaped(kind)}{_remedy(kind)}" for kind, count in left_out.most_common(_SHOWN)]
    more = sum(count for _, count in left_out.most_common()[_SHOWN:])
    return f"left out: {', '.join(shown)}{f' and {more:,} others' if more else ''}" if shown else ""


def _remedy(suffix: str) -> str:
    if suffix == "folders":
        return " (without --recursive)"
    package = needed_package(suffix)
    return f" (pip install {package})" if package else ""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is skipped; "." and ".." are not.

    >>> is_hidden("._cat.jpg"), is_hidden("__MACOSX"), is_hidden("cat.jpg")
    (True, True, False)
    """
    return (name.startswith(".") and name not in (".", "..")) or name.lower() in _SKIPPED


def is_folder(path: Path) -> bool:
    """Whether a path is a folder or a link to one; False where that cannot be told."""
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, or a folder above that must not be read
        return False


def _explain_none(others: Counter[str], recursive: bool) -> str:
    seen = ", ".join(f"{count} with {suffix}" for suffix, count in others.most_common(3) if suffix != "folders")
    inside = "" if recursive or not others["folders"] else "; folders inside it are searched with recursive=True"
    return f"no images found{f' (but {seen})' if seen else ''}; looked for {' '.join(IMAGE_SUFFIXES)}{inside}"


def evenly_spaced(count: int, of: int) -> list[int]:
    """Choose up to `count` ascending places at even distances: in data sorted by class every class has its share.

    Raises:
        ValueError: `count` is below 1.

    >>> evenly_spaced(3, 9)
    [0, 3, 6]
    """
    if count < 1:
        raise ValueError(f"the limit is {count}, but must be at least 1 image")
    chosen = min(count, of)
    return [number * of // chosen for number in range(chosen)]
