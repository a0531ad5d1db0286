"""Which part of the data a name means: one rule for evaluation, probes, fine-tuning and training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from convit.data.locate import Source, find_files, kind_of
from convit.images import find_images
from convit.images.listing import is_folder, list_folder
from convit.images.names import is_remote, not_found, shown, url_path
from convit.output.text import first_few

PARTS = {"train": ("train", "training"), "val": ("val", "validation", "valid"), "test": ("test", "testing")}
"""The parts of a data set, and the names that each goes by, in any case: also as `seg_train`, `test_set`, `valData`."""

_PART = re.compile(
    rf"(?:(?:seg|imgs?|images?|data)[-_ ]?)?({'|'.join(sum(PARTS.values(), ()))})"
    r"(?:[-_ ]?(?:set|data|imgs?|images?|split|seg))?",
    re.IGNORECASE,
)
_SHOWN = 8


class SplitError(ValueError):
    """The data have no such split, or name another one already."""


def part_of(name: str) -> str | None:
    """The part that a folder's or file's name means: "train", "val" or "test"; None for another name.

    >>> part_of("Training"), part_of("seg_test"), part_of("valid"), part_of("testudo")
    ('train', 'test', 'val', None)
    """
    found = _PART.fullmatch(name)
    return next((part for part, names in PARTS.items() if found and found[1].lower() in names), None)


def part_of_file(file: Path | str) -> str | None:
    """The part that a word in a file's name means.

    >>> part_of_file("train-000.tar"), part_of_file("imagenet1k-validation-07.tar"), part_of_file("x.parquet")
    ('train', 'val', None)
    """
    base = _base(file)
    return next(filter(None, map(part_of, re.split(r"[-.]", base) + re.split(r"[-_.\d]+", base))), None)


def check_one_set(source: Source) -> None:
    """Refuse data that are several parts, of which one has to be named.

    Raises:
        ValueError: a folder's sub-folders are not classes, or its files (or a pattern's) belong to several parts.
    """
    kind, folder = kind_of(source), _as_folder(source)
    if kind.name == "folder" and folder is not None and folder.is_dir():
        _check_classes(_around_parts(folder))
    elif kind.suffixes and isinstance(source, str | Path):
        found = _by_part(find_files(source, None, kind.name))
        if len(found) > 1:
            raise SplitError(
                f"{shown(source)} holds the parts {', '.join(part for part in PARTS if part in found)}; name one of "
                "them, by its files or as the split"
            )


def spellings(split: str) -> tuple[str, ...]:
    """The plain names that a split goes by, the one that was asked for first.

    >>> spellings("validation"), spellings("extra")
    (('validation', 'val', 'valid'), ('extra',))
    """
    return tuple(dict.fromkeys((split, *PARTS.get(part_of(split) or "", ()))))


def choose_split(data: Source, split: str) -> Source:
    """Find a part of the data by name.

    | data | the split "val" is |
    | --- | --- |
    | a folder with sub-folders | the sub-folder `val` |
    | shards, Parquet files: a folder, a pattern, a list, a URL | those whose names begin with `val-` or are `val.` … |

    The exact name goes first, then the others that mean the same part (`PARTS`). The part has the form of `data`.

    Raises:
        FileNotFoundError: there is nothing at `data`.
        SplitError: there is no such split; the message names those that there are.
    """
    kind, folder = kind_of(data), _as_folder(data)
    if folder is not None and not kind.suffixes and not folder.exists():
        raise not_found(folder, f"there is no folder {folder}; check the path")
    files = find_files(data, None, kind.name) if kind.suffixes else []
    if folder is not None and is_folder(folder):
        inside = _sub_folder(_around_parts(folder), split)
        if inside is not None:
            return _unwrap(inside)
    exact = [file for file in files if _base(file).startswith((f"{split}-", f"{split}."))]
    found = exact or [file for file in files if part_of(split) is not None and part_of_file(file) == part_of(split)]
    if found:
        return cast("Source", found)
    name = shown(data) if isinstance(data, str | Path) else f"the list of {len(data)} files"
    raise SplitError(f"{name} has no split {split!r}; {_what_there_is(files, folder)}")


def choose_sub_folder(folder: Path, split: str) -> Path:
    """The sub-folder that a split's name means.

    Raises:
        FileNotFoundError: there is no such folder.
        SplitError: it has no such sub-folder; the message names those that there are.
    """
    if not folder.is_dir():
        raise not_found(folder, f"there is no folder {folder}; check the path")
    found = _sub_folder(folder, split)
    if found is None:
        raise SplitError(f"{folder} has no split {split!r}; {_what_there_is([], folder)}")
    return found


def with_split(source: str, split: str, said: str) -> str:
    """A source such as "hub:owner/name" with its split behind a colon, where it has not `said` one already.

    Raises:
        SplitError: `source` names another one.
    """
    if said and said not in spellings(split):
        raise SplitError(f"{source} names the split {said!r} already, not {split!r}; leave one of the two out")
    return source if said else f"{source}:{split}"


@dataclass(frozen=True)
class Layout:
    """The parts of some data that a model is to be trained on.

    Attributes:
        train: what is trained on.
        validation: what it is watched by; None if images have to be held out.
        test: what is left for the end; neither trained nor selected on.
        others: sub-folders that are none of these, which are left alone.
    """

    train: Source
    validation: Source | None = None
    test: Source | None = None
    others: tuple[Path, ...] = ()


def find_layout(source: Source) -> Layout:
    """Find the parts of a folder, or of the shards or Parquet files in it, by their names.

    A folder of parts may lie in a folder of its own, and the classes of a part too (`images/train`,
    `seg_train/seg_train`). Without a training part the data are one set. Whether hub data sets and CIFAR have a test
    part is known when it is opened; where a part is named ("cifar10:FOLDER:train"), it is all of the data.

    Raises:
        FileNotFoundError: there is nothing at `source`.
        ValueError: the sub-folders are not classes, but hold the same sub-folders each.
    """
    kind = kind_of(source)
    if kind.prefixes:
        has_test = kind.name != "imagenet" and str(source).count(":") == 1  # a part is named after a second one
        return Layout(source, test=f"{source}:test" if has_test else None)
    if kind.suffixes:
        files = find_files(source, None, kind.name)
        by_part = _by_part(files)
        if len(by_part.get("train", files)) == len(files):
            return Layout(source)
        return Layout(by_part["train"], by_part.get("val"), by_part.get("test"))
    folder = Path(cast("str | Path", source))
    if not folder.is_dir():
        return Layout(folder)
    folder = _around_parts(folder)
    parts = _part_folders(folder)
    if "train" not in parts:
        _check_classes(folder)
        return Layout(folder)
    others = [child for child in _folders(folder) if child not in parts.values()]
    unwrapped = {part: _unwrap(place) for part, place in parts.items()}
    return Layout(unwrapped["train"], unwrapped.get("val"), unwrapped.get("test"), tuple(others))


def has_part(source: Source, part: str) -> bool:
    """Whether there is a "train", "val" or "test" among the sub-folders, or among the shards or Parquet files.

    What hub data sets, CIFAR and ImageNet's folders have is known when they are opened.
    """
    kind, folder = kind_of(source), _as_folder(source)
    if kind.suffixes:
        return part in _by_part(find_files(source, None, kind.name))
    return folder is not None and folder.is_dir() and part in _part_folders(_around_parts(folder))


def holds_folders(folder: Path) -> bool:
    """Whether it is a folder of folders; a class that is called "train" has its images directly inside."""
    return bool(_folders(folder)) and not find_images(folder, recursive=False, or_none=True)


def _folders(folder: Path) -> list[Path]:
    return [child for child in list_folder(folder) if is_folder(child)]


def _around_parts(folder: Path) -> Path:
    """The folder whose sub-folders are parts, where it lies alone in this one; else this one."""
    inside = None if _part_folders(folder) else _only_folder(folder)
    return inside if inside is not None and _part_folders(inside) else folder


def _part_folders(folder: Path) -> dict[str, Path]:
    """The sub-folders that are parts, by part; of two names for one part the likelier."""
    found: dict[str, Path] = {}
    folders = _folders(folder)
    for part, names in PARTS.items():
        named = [child for child in folders if part_of(child.name) == part]
        likely = [folder / name for name in names if folder / name in named]
        chosen = next((each for each in [*likely, *named] if holds_folders(each) or kind_of(each).suffixes), None)
        if chosen is not None:
            found[part] = chosen
    return found


def _only_folder(folder: Path) -> Path | None:
    inside = _folders(folder)
    return inside[0] if len(inside) == 1 and holds_folders(folder) else None


def _unwrap(folder: Path) -> Path:
    inside = _only_folder(folder)
    return inside if inside is not None and part_of(inside.name) == part_of(folder.name) else folder


def _check_classes(folder: Path) -> None:
    """Refuse sub-folders that are parts or repetitions of one set, not classes."""
    children = _folders(folder)
    names, parts = first_few([child.name for child in children], _SHOWN), _part_folders(folder)
    if "train" in parts or len(parts) > 1 or (len(children) > 1 and all(part_of(child.name) for child in children)):
        raise SplitError(
            f"the sub-folders {names} of {folder} are parts, not classes; name one of them, such as "
            f"{children[0]}, whose images lie in a sub-folder per class"
        )
    shared: set[str] | None = None
    for child in children:
        inside = {each.name for each in _folders(child)}
        shared = inside if shared is None else shared & inside
        if len(shared) < 2:
            return
    if shared and len(children) > 1 and all(map(holds_folders, children)):
        raise ValueError(
            f"the sub-folders {names} of {folder} are not classes: each holds {first_few(sorted(shared), _SHOWN)}; "
            "call the parts train, val and test, or name one of them; where they are classes, give a .csv of images "
            "and labels"
        )


def _sub_folder(folder: Path, split: str) -> Path | None:
    if (folder / split).is_dir():
        return folder / split
    likely = [folder / name for name in spellings(split)]
    others = [child for child in list_folder(folder) if part_of(split) and part_of(child.name) == part_of(split)]
    return next((place for place in [*likely, *others] if place.is_dir()), None)


def _as_folder(data: Source) -> Path | None:
    return None if not isinstance(data, str | Path) or is_remote(data) else Path(data)


def _by_part(files: Sequence[Path | str]) -> dict[str, list[Path | str]]:
    found: dict[str, list[Path | str]] = {}
    for file in files:
        if (part := part_of_file(file)) is not None:
            found.setdefault(part, []).append(file)
    return found


def _what_there_is(files: list[Path | str], folder: Path | None) -> str:
    known = {re.split(r"[-.]", _base(file))[0] for file in files}
    if folder is not None and is_folder(folder):
        known |= {child.name for child in _folders(folder)}
    return f"it has {first_few(sorted(known), _SHOWN)}" if known else "it has no folder and no shard"


def _base(file: Path | str) -> str:
    return Path(url_path(str(file)) if is_remote(file) else file).name
