"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from convit.output.files import check_output, explain, held_open, lock, remove, remove_abandoned, unfinished


def check_folder(folder: Path, names: Sequence[str], *, overwrite: bool = False) -> None:
    """Find out whether a folder of files can be written, without leaving a trace; call it before the expensive work.

    The folder and those above it may be missing. Raises the errors of `check_output`.
    """
    if folder.is_dir():
        there = [name for name in names if (folder / name).exists()]
        if there and not overwrite:
            raise FileExistsError(f"{folder}: holds {there[0]} already; choose another folder, or overwrite it")
        for name in names:
            check_output(folder / name, overwrite=True)
        return
    if folder.exists():
        raise NotADirectoryError(f"{folder}: is a file, not a folder; name another place")
    missing = folder
    while not missing.parent.exists():
        missing = missing.parent
    check_output(missing)  # what can be made a file can be made a folder


@contextmanager
def whole_folder(path: Path, names: Sequence[str], *, overwrite: bool = False) -> Generator[Path]:
    """A folder to fill that gets its name at the end, or leaves nothing behind where something went wrong.

    One that is to be replaced stays then. Raises the errors of `check_whole_folder`.
    """
    check_whole_folder(path, names, overwrite=overwrite)
    target = Path(os.path.realpath(path))
    remove_abandoned(target.parent)
    temporary = target.with_name(f".convit-{secrets.token_hex(6)}.tmp")
    old = temporary.with_suffix(".old.tmp")
    unfinished.add(temporary)
    try:
        temporary.mkdir()
        with held_open(temporary) as file:
            lock(file)
            yield temporary
            check_whole_folder(path, names, overwrite=overwrite)
            if target.exists():
                target.rename(old)
            temporary.rename(target)
    except OSError as error:
        raise explain(error, path) from None
    finally:
        remove(temporary)
        unfinished.discard(temporary)
        if old.exists() and not target.exists():  # stopped between the two renames
            old.rename(target)
        remove(old)


def check_whole_folder(path: Path, names: Sequence[str], *, overwrite: bool = False) -> None:
    """Find out whether `whole_folder` can write there, without leaving a trace; call it before the expensive work.

    Args:
        path: the folder; the one above it must exist.
        names: patterns of what may stand in a folder that is replaced: nobody else's files are.
        overwrite: whether a folder that isn't empty may be replaced.

    Raises:
        FileExistsError: it isn't empty and `overwrite` is false, or it holds something else.
        FileNotFoundError, NotADirectoryError, PermissionError: as their names say.
        OSError: the disk is full, read-only or broken.
    """
    temporary = Path(os.path.realpath(path)).with_name(f".convit-{secrets.token_hex(6)}.tmp")
    try:
        check_output(temporary)
    except OSError as error:  # whose name nobody has given
        raise type(error)(str(error).replace(str(temporary), str(path))) from None
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path}: is a file, not a folder; name another place")
    there = sorted(each.name for each in path.iterdir()) if path.exists() else []
    foreign = [name for name in there if not any(fnmatch(name, each) for each in names)]
    if there and not overwrite:
        raise FileExistsError(f"{path}: holds {there[0]} already; choose another folder, or overwrite it")
    if foreign:
        raise FileExistsError(f"{path}: holds {foreign[0]}, which would be lost; choose another folder")
