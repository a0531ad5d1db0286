"""Files that appear whole or not at all, and which format results are written in."""

import errno
import functools
import hashlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Literal

from convit.output.console import is_terminal

# what an operating system's error means for the person at the keyboard; the others keep the system's own words
_REASONS = {
    errno.ENOSPC: "no space left on the device; free some, or {remedy}",
    errno.EDQUOT: "the disk quota is used up; free some space, or {remedy}",
    errno.EFBIG: "the file would become larger than is allowed here; {remedy}",
    errno.EROFS: "the file system is read-only; {remedy}",
    errno.EACCES: "no permission; change the permissions, or {remedy}",
    errno.EPERM: "no permission; change the permissions, or {remedy}",
    errno.ENAMETOOLONG: "the name is too long; shorten it",
    errno.ENOENT: "no such file or folder",
    errno.EEXIST: "exists already",
    errno.EISDIR: "is a folder, not a file",
    errno.ENOTDIR: "is a file, not a folder",
    errno.EMFILE: "too many open files; use fewer --workers, or raise the limit (ulimit -n)",
}
_OS_ERROR = re.compile(r"os error (\d+)")  # how errors of libraries written in Rust end
ELSEWHERE = "write to another place"


def check_output(output: Path, *, overwrite: bool = False) -> None:
    """Find out whether a file can be written, without leaving a trace; call it before the expensive work.

    Raises:
        FileExistsError: it exists and `overwrite` is false, or it is a device or a pipe.
        FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError: as their names say.
        OSError: the disk is full, read-only or broken.
    """
    WholeFile(output, overwrite=overwrite).discard()


def check_packages(what: str, *packages: str, extra: str) -> None:
    """Refuse work whose packages are missing before it begins, and say which extra of this package brings them.

    Raises:
        ModuleNotFoundError: one of them is not installed.
    """
    for package in packages:
        if find_spec(package) is None:
            raise ModuleNotFoundError(
                f"{what} needs the package '{package}'; install it with: pip install 'convit[{extra}]'"
            )


def hash_file(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class WholeFile:
    """A file that is written under a temporary name in the same folder and then renamed.

    Args:
        path: the final name. A link is followed: the file that it names is replaced, not the link.
        overwrite: whether an existing file may be replaced.

    Attributes:
        file: the open temporary file, for bytes.
        folder: where it lies.

    Raises:
        As `check_output`.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        self._overwrite = overwrite
        try:
            self._target = Path(os.path.realpath(path))  # `resolve` fails at links in a circle
            _check_target(path, self._target, overwrite=overwrite)
            remove_abandoned(self._target.parent)
            self._temporary, self.file = _open_temporary(self._target)
            self.folder = self._target.parent
        except OSError as error:
            raise explain(error, path) from None

    def keep(self) -> None:
        """Give the file its final name; on any error it is discarded.

        Raises:
            FileExistsError: another file has taken the name meanwhile, and `overwrite` is false.
            OSError: what is buffered cannot be written.
        """
        try:
            self.file.flush()
            os.fsync(self.file.fileno())
            if os.name == "nt":  # which renames no open file; elsewhere it stays locked until it has its name
                self.file.close()
            _check_target(self.path, self._target, overwrite=self._overwrite)
            if self._target.exists():
                shutil.copymode(self._target, self._temporary)
            self._temporary.replace(self._target)
        except OSError as error:
            raise explain(error, self.path) from None
        finally:
            # there is nothing left to remove where all went well
            self.discard()

    def discard(self) -> None:
        """Remove what was written so far; a second call does nothing."""
        with suppress(OSError):  # the buffer may not fit on the disk, which is why the file goes
            self.file.close()
        self._temporary.unlink(missing_ok=True)
        unfinished.discard(self._temporary)


unfinished: set[Path] = set()  # temporary files of this process


def remove_unfinished() -> None:
    """Remove this process's temporary files: for its end, where a signal may have come between any two steps."""
    while unfinished:
        remove(unfinished.pop())


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that it holds; nothing where there is none."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _open_temporary(target: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = target.with_name(f".convit-{secrets.token_hex(6)}.tmp")
        unfinished.add(path)
        file = path.open("xb")
        lock(file)
        if os.fstat(file.fileno()).st_nlink:
            return path, file
        file.close()  # another process took it for abandoned before it was locked
        unfinished.discard(path)


@functools.cache
def remove_abandoned(folder: Path) -> None:
    """Remove temporary files and folders of processes that were killed: those that nobody holds locked."""
    with suppress(OSError):
        for path in folder.glob(".convit-*.tmp"):
            with suppress(OSError), held_open(path) as file:
                if lock(file, wait=False):
                    remove(path)


@contextmanager
def held_open(path: Path) -> Generator[int]:
    """A file or folder to lock; it stays as it is."""
    file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)


def lock(file: BinaryIO | int, *, wait: bool = True) -> bool:
    """Lock a file until it is closed or the process ends, however it ends; False where that cannot be."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by its writer, or a file system without locks
        return False
    return True


@contextmanager
def whole_file(path: Path, *, overwrite: bool = False) -> Generator[BinaryIO]:
    """A file to write to that gets its name at the end, or leaves nothing behind where something went wrong.

    Raises:
        FileExistsError: the file exists and `overwrite` is false.
        OSError: it cannot be written; one line with path, reason and remedy.
    """
    whole = WholeFile(path, overwrite=overwrite)
    try:
        yield whole.file
        whole.keep()
    except OSError as error:
        raise explain(error, path) from None
    finally:
        whole.discard()


def write_file(path: Path, content: str | bytes, *, overwrite: bool = False) -> None:
    r"""Write a file, whole or not at all; text in UTF-8.

    File names that are not UTF-8 do not cost the result: their bytes are spelled out, such as `\udcff`.

    Raises:
        FileExistsError, OSError: as `whole_file`.
    """
    with whole_file(path, overwrite=overwrite) as file:
        file.write(content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace"))


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, in place of one that is there; missing folders are made."""
    with explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, content, overwrite=True)


def reason_of(error: OSError, remedy: str = ELSEWHERE) -> str:
    """What an operating system's error means and what can be done, without the place."""
    return _REASONS.get(error.errno or 0, error.strerror or str(error)).format(remedy=remedy)


def explain(error: OSError, path: Path, remedy: str = ELSEWHERE) -> OSError:
    """Make one line of an operating system's error: the path, the reason and the remedy; class and number stay."""
    if error.errno is None or error.strerror is None:
        return error
    explained = type(error)(f"{path}: {reason_of(error, remedy)}")
    explained.errno = error.errno  # given to the constructor, it would stand in front of the message
    return explained


@contextmanager
def explained(place: Path, remedy: str = ELSEWHERE) -> Generator[None]:
    """Turn what the operating system refuses inside the block (a full disk, say) into one line with a remedy."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        match = _OS_ERROR.search(str(error))
        code = getattr(error, "errno", None) or (int(match[1]) if match else None)
        if code is None or "{remedy}" not in _REASONS.get(code, ""):
            raise
        raise explain(OSError(code, os.strerror(code)), place, remedy) from error


def _check_target(path: Path, target: Path, *, overwrite: bool) -> None:
    folder = target.parent
    if not folder.exists():
        raise FileNotFoundError(f"{path}: there is no folder {folder}; create it first")
    if not folder.is_dir():
        raise NotADirectoryError(f"{path}: {folder} is a file, not a folder; write to another place")
    if not target.exists():
        return
    if target.is_dir():
        raise IsADirectoryError(f"{path}: is a folder; name a file in it")
    if not target.is_file():
        raise FileExistsError(f"{path}: is a device or a pipe, not a file to replace; write to standard output instead")
    if not overwrite:
        raise FileExistsError(f"{path}: exists already; choose another name, or overwrite it")
    if not os.access(target, os.W_OK):
        raise PermissionError(f"{path}: is write-protected; change its mode, or choose another name")


Rows = Literal["classification", "embedding", "rows"]

FORMATS = ("table", "json", "jsonl", "csv", "parquet", "npz", "markdown")
FORMATS_OF: dict[str, tuple[str, ...]] = {
    "classification": ("table", "json", "jsonl", "csv", "parquet"),
    "embedding": ("table", "json", "jsonl", "csv", "parquet", "npz"),
    "rows": ("table", "json", "jsonl", "csv", "parquet", "markdown"),
}
_ODD_SUFFIXES = {"table": ".txt", "text": ".txt", "markdown": ".md"}
SUFFIXES = {name: _ODD_SUFFIXES.get(name, f".{name}") for name in (*FORMATS, "text")}
_FILES_ONLY = ("parquet", "npz")


def choose_format(
    output: Path | None,
    format: str | None,  # noqa: A002
    rows: Rows | tuple[str, ...],
) -> str:
    """Choose how results are written: as asked, else by the file's suffix, else by who reads.

    Args:
        output: the file, or `None` for standard output.
        format: one of `SUFFIXES` if the caller names it.
        rows: what is written, "classification", "embedding" or "rows"; or the formats that a single result has, the one
            for people first. That is what standard output gets where it is a terminal; elsewhere it gets JSON lines of
            rows and JSON of a single result.

    Returns:
        One of `SUFFIXES`.

    Raises:
        ValueError: an unknown format or suffix, one that does not suit the rows, or one that needs a file and has none.

    >>> choose_format(Path("labels.csv"), None, "classification")
    'csv'
    """
    formats = FORMATS_OF[rows] if isinstance(rows, str) else rows
    chosen = format
    if chosen is None and output is None:
        chosen = formats[0] if is_terminal(sys.stdout) else "jsonl" if "jsonl" in formats else "json"
    elif chosen is None and output is not None:
        chosen = next((each for each in formats if SUFFIXES[each] == output.suffix.lower()), None)
        if chosen is None:
            suffix = f"the suffix {output.suffix!r}" if output.suffix else "a name without a suffix"
            known = ", ".join(SUFFIXES[each] for each in formats)
            raise ValueError(f"{output}: {suffix} does not select a format here; use one of {known}")
    if chosen not in formats:
        raise ValueError(f"format is {chosen!r}, but must be one of {', '.join(formats)}")
    if output is None and chosen in _FILES_ONLY:
        raise ValueError(f"{chosen} is not text and needs a file; name one as output")
    return chosen


def figure_format(path: Path) -> str:
    """The format that a figure's suffix means: "png", "svg" or "pdf".

    Raises:
        ValueError: it means none of them.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"{path} ends in none of .png, .svg, .pdf; choose one of these suffixes")
    return path.suffix.lower()[1:]
