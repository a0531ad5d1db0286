"""Where a data set lies and of what kind it is: a folder, files by brace pattern, list or folder, or a name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

from convit.data.remote import list_files
from convit.images import IMAGE_SUFFIXES
from convit.images.listing import is_folder, is_hidden, list_folder
from convit.images.lists import is_list
from convit.images.names import is_remote, not_found, shown, url_path
from convit.weights.published import DATA_SETS

Source = str | Path | Sequence[str | Path]

_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})")
_MOST_NAMES = 1_000_000  # that one pattern may mean


@dataclass(frozen=True)
class Kind:
    """One kind of source.

    Attributes:
        name: what it is called.
        module: the module of `convit.data` whose `open_source` opens it.
        prefixes: what stands before the colon in the name of such a source.
        suffixes: of its files, where it is files.
    """

    name: str
    module: str
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()


KINDS = (
    Kind("imagenet", "imagenet", prefixes=tuple(DATA_SETS)),
    Kind("hub", "hub", prefixes=("hub",)),
    Kind("cifar", "cifar", prefixes=("cifar10", "cifar100")),
    Kind("shards", "shards", suffixes=(".tar", ".tar.gz", ".tgz")),
    Kind("parquet", "parquet", suffixes=(".parquet",)),
    Kind("list", "folders"),
    Kind("folder", "folders"),
)
"""All kinds of sources; a new one is a module with `open_source`, and a row here."""


def kind_named(name: str) -> Kind:
    """The kind of this name."""
    return next(kind for kind in KINDS if kind.name == name)


def kind_of(source: Source, root: str | Path | None = None) -> Kind:
    """Which kind of data `source` means, as for `convit.data.open_samples`; what is nowhere counts as a folder."""
    of_files = [kind for kind in KINDS if kind.suffixes]
    shards = kind_named("shards")
    if not isinstance(source, (str, Path)):
        found = (kind for kind in of_files if source and all(_ends(name, kind.suffixes) for name in source))
        return next(found, shards)
    prefix, colon, _ = str(source).partition(":")
    if colon and not is_remote(source):
        named = next((kind for kind in KINDS if prefix in kind.prefixes), None)
        if named is not None:
            return named
    place = located(source, root)
    if isinstance(place, Path) and is_folder(place):  # whatever it is called
        files = [child for child in list_folder(_around_files(place)) if child.is_file()]
        found = (kind for kind in of_files if any(_ends(file, kind.suffixes) for file in files))
        return next(found, kind_named("folder"))
    if is_list(source):
        return kind_named("list")
    # a pattern without a suffix means shards
    others = shards if is_remote(place) or any(sign in str(source) for sign in "*{") else kind_named("folder")
    return next((kind for kind in of_files if _ends(source, kind.suffixes)), others)


def located(name: str | Path, root: str | Path | None = None) -> Path | str:
    """Where a name lies when it starts from `root`: a `Path`, or a URL as a str; a URL starts from itself."""
    if root is None or is_remote(name):
        return str(name) if is_remote(name) else Path(name)
    if is_remote(root):
        return f"{str(root).rstrip('/')}/{Path(name).as_posix()}"
    return Path(root) / name


def check_there(source: Source, root: str | Path | None = None) -> None:
    """Refuse a folder, shards or Parquet files that are not there, before any is opened; nothing is fetched.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: a brace pattern is not as it must be.
    """
    for name in [source] if isinstance(source, str | Path) else source:
        place = located(name, root)
        if not isinstance(place, Path) or place.exists():
            continue
        kind = kind_of(name, root)
        if kind.suffixes:
            find_files(place, None, kind.name)
        elif kind.name == "folder":
            raise not_found(place, f"there is no folder {place}; give the folder whose sub-folders are the classes")


def find_files(source: Source, root: str | Path | None = None, kind: str = "shards") -> list[Path | str]:
    """The shards or Parquet files that a pattern, a list of patterns or a folder means, each group in sorted order.

    Args:
        source: "train-{000000..000004}.tar.gz", "train-*.tar", one file, a folder of shards, a URL of one of these
            ("https://host/train-{000..146}.tar", "s3://bucket/train-*.tar"), or a list of these.
        root: folder or URL that relative patterns start from; the working folder without it.
        kind: the name of their kind.

    Returns:
        A `Path` for each existing file here, a str for each URL, without repetition. Whether a URL that was named in
        full exists is found out when it is read.

    Raises:
        ConnectionError: the server of a remote pattern with * cannot be reached.
        FileNotFoundError: a pattern means no file, or one of the files that a brace pattern lists is absent.
    """
    suffixes = kind_named(kind).suffixes
    found: dict[Path | str, None] = {}
    for pattern in [source] if isinstance(source, (str, Path)) else source:
        whole = located(pattern, root)
        # then braces are part of its name; a pattern may be longer than a name can be
        named = isinstance(whole, Path) and os.path.exists(whole)  # noqa: PTH110
        for name in [str(pattern)] if named else expand_braces(str(pattern)):
            place = located(name, root)
            matches = _local(place, suffixes) if isinstance(place, Path) else _remote(place, suffixes)
            if not matches:
                what = "Parquet file" if kind == "parquet" else "shard"
                message = (
                    f"no {what} at {shown(place)}; name {', '.join(suffixes)} files, or the folder that holds them"
                )
                raise not_found(Path(place), message)
            found.update(dict.fromkeys(matches))
    return list(found)


def file_names(files: Sequence[Path | str]) -> list[str]:
    """What records call files: by name; a URL whole, and with its path a file whose name is in several folders."""
    short = [file.name if isinstance(file, Path) else shown(file) for file in files]
    return short if len(set(short)) == len(short) else [shown(file) for file in files]


def _local(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if path.is_dir():
        return [child for child in list_folder(_around_files(path)) if child.is_file() and _ends(child, suffixes)]
    if path.is_file():
        return [path]
    matches = (match for match in path.parent.glob(path.name) if not is_hidden(match.name))
    return sorted(match for match in matches if _ends(match, suffixes))


def _around_files(folder: Path) -> Path:
    """The folder that holds a data set's files: this one, or its `data` or the only one in it, as from the hub."""
    suffixes = sum((kind.suffixes for kind in KINDS), ())
    children = list_folder(folder)
    if any(_ends(child, suffixes) for child in children):
        return folder
    folders = list(filter(is_folder, children))
    inside = folder / "data" if folder / "data" in folders else folders[0] if len(folders) == 1 else folder
    names = [child.name for child in list_folder(inside)]
    holds = any(_ends(name, suffixes) for name in names) and not any(_ends(name, IMAGE_SUFFIXES) for name in names)
    return inside if holds else folder


def _remote(url: str, suffixes: tuple[str, ...]) -> list[str]:
    named = _ends(url, suffixes)
    if named and "*" not in url_path(url):
        return [url]
    return [file.url for file in list_files(url if named else url.rstrip("/") + "/*") if _ends(file.url, suffixes)]


def _ends(name: str | Path, suffixes: tuple[str, ...]) -> bool:
    return (url_path(str(name)) if is_remote(name) else str(name)).lower().endswith(suffixes)


def expand_braces(pattern: str) -> list[str]:
    """Every name that a pattern with braces means, in order; a name without braces is itself.

    Numbers keep the width of the first bound, as in a shell.

    Raises:
        ValueError: a brace is not closed, a range runs downwards, or more than a million names are meant.

    >>> expand_braces("x-{08..10}.tar")
    ['x-08.tar', 'x-09.tar', 'x-10.tar']
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    if any(brace in part for part in parts for brace in "{}"):
        raise ValueError(
            f"{pattern!r} has an unpaired or nested brace; write ranges as {{000..004}} and choices as {{a,b}}"
        )
    choices = [[part] if index % 2 == 0 else _alternatives(part, pattern) for index, part in enumerate(parts)]
    if prod(map(len, choices)) > _MOST_NAMES:
        raise ValueError(f"{pattern!r} means more than {_MOST_NAMES:,} files; correct it")
    return ["".join(combination) for combination in product(*choices)]


def _alternatives(inside: str, pattern: str) -> list[str]:
    bounds = _RANGE.fullmatch(inside)
    if bounds is None:
        return inside.split(",")
    first, last = bounds.groups()
    if int(last) < int(first):
        raise ValueError(f"the range {{{inside}}} in {pattern!r} runs downwards; put the smaller number first")
    # sliced, so that no more than are too many are made
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)[: _MOST_NAMES + 1]]
