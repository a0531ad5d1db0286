"""Which part of the data a split's name means."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from convit.data.cifar import SPLITS
from convit.data.locate import PARQUET_SUFFIXES, SHARD_SUFFIXES, Source, find_parquet, find_shards, form_of
from convit.data.remote import is_remote, shown, url_path
from convit.images.listing import is_folder, list_folder

_SAME = {"val": "validation", "validation": "val"}
_SHOWN = 8


class SplitError(ValueError):
    """The data have no such split, or name another one already."""


def spellings(split: str) -> tuple[str, ...]:
    """The names that a split goes by, the one that was asked for first.

    >>> spellings("val"), spellings("test")
    (('val', 'validation'), ('test',))
    """
    return (split, _SAME[split]) if split in _SAME else (split,)


def choose_split(data: Source, split: str) -> Source:
    """Find a part of the data by name.

    | data | the split "val" is |
    | --- | --- |
    | a folder with sub-folders | the sub-folder `val` |
    | shards, Parquet files: a folder, a pattern, a list, a URL | those whose names begin with `val-` or are `val.` … |
    | "cifar10:FOLDER" | "train" or "test", as its authors split it |

    "val" also finds "validation", and the other way round; the exact name goes first. Hub data sets are split by their
    own library, see `convit.evaluation.labeled.tables`.

    Args:
        data: as for `open_labeled`.
        split: the name.

    Returns:
        That part, in the same form.

    Raises:
        FileNotFoundError: there is nothing at `data`.
        SplitError: there is no such split; the message names those that there are.
    """
    if form_of(data) == "cifar":
        return _of_cifar(str(data), split)
    folder = None if not isinstance(data, str | Path) or is_remote(data) else Path(data)
    files = _files(data, folder)
    for name in spellings(split):
        if folder is not None and (folder / name).is_dir():
            return folder / name
        found = [file for file in files if _base(file).startswith((f"{name}-", f"{name}."))]
        if found:
            return cast("Source", found)
    raise SplitError(f"{_told(data)} has no split {split!r}; {_what_there_is(files, folder)}")


def choose_sub_folder(folder: Path, split: str) -> Path:
    """The sub-folder that a split's name means.

    Raises:
        FileNotFoundError: there is no such folder.
        SplitError: it has no such sub-folder; the message names those that there are.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; check the path")
    for name in spellings(split):
        if (folder / name).is_dir():
            return folder / name
    raise SplitError(f"{folder} has no split {split!r}; {_what_there_is([], folder)}")


def with_split(source: str, split: str, named: str) -> str:
    """A source with its split behind a colon, where it does not name one already.

    Args:
        source: such as "hub:owner/name".
        split: what is asked for.
        named: the split that `source` names itself, "" for none.

    Raises:
        SplitError: `source` names another one.
    """
    if named and named not in spellings(split):
        raise SplitError(f"{source} names the split {named!r} already, not {split!r}; leave one of the two out")
    return source if named else f"{source}:{split}"


def _of_cifar(source: str, split: str) -> str:
    if split not in SPLITS:
        raise SplitError(f"{source} has no split {split!r}; it has {', '.join(SPLITS)}")
    last = source.rpartition(":")[2]
    return with_split(source, split, last if last in SPLITS and source.count(":") > 1 else "")


def _files(data: Source, folder: Path | None) -> list[Path | str]:
    """The shards of the data, or else their Parquet files, whatever split they are of."""
    if folder is not None and not folder.exists() and form_of(data) == "folder":
        raise FileNotFoundError(f"there is no folder {folder}; check the path")
    if folder is not None and folder.is_dir():
        children = sorted(child for child in folder.iterdir() if child.is_file())
        for suffixes in (SHARD_SUFFIXES, PARQUET_SUFFIXES):
            found: list[Path | str] = [child for child in children if child.name.lower().endswith(suffixes)]
            if found:
                return found
        return []
    match form_of(data):
        case "shards":
            return find_shards(data)
        case "parquet":
            return find_parquet(data)
        case _:
            return []


def _what_there_is(files: list[Path | str], folder: Path | None) -> str:
    known = {_base(file).partition("-")[0].partition(".")[0] for file in files}
    if folder is not None and folder.is_dir():
        known |= {child.name for child in list_folder(folder) if is_folder(child)}
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"it has {', '.join(sorted(known)[:_SHOWN])}{more}" if known else "it has no folder and no shard"


def _base(file: Path | str) -> str:
    return file.name if isinstance(file, Path) else url_path(file).rpartition("/")[2]


def _told(data: Source) -> str:
    return shown(data) if isinstance(data, str | Path) else f"the list of {len(data)} files"
