"""Where the results of a job go: a folder, or a prefix in an object store."""

from __future__ import annotations

import posixpath
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from convit.data.remote import filesystem_of, is_refusal
from convit.images.names import is_remote, local_name, redacted, shown, text_path
from convit.output.files import explained, reason_of, replace_file

_LARGEST_PUT = 5 * 2**30  # bytes that S3 takes in one request, so that an object is there whole or not at all
_LOCK_SECONDS = 600


class Destination:
    """Named objects that appear whole or not at all: files of a folder, or objects under a URL (s3, gs, az …).

    Args:
        place: the folder (its path, or a `file:///` URL), which is made when the first object is written, or the URL.

    Raises:
        ImportError: the package for this kind of URL is not installed.
        ValueError: the place is empty, fsspec knows no such kind of URL, or it cannot be written (http).
    """

    def __init__(self, place: str | Path) -> None:
        if not str(place):
            raise ValueError("the place of the results is empty; name a folder or a URL")
        self.place = local_name(str(place)).rstrip("/") or "/"
        self._folder = None if is_remote(self.place) else Path(self.place)
        if self._folder is not None:
            return
        if self.place.startswith(("http://", "https://")):
            raise ValueError(f"{self} cannot be written to; name a folder, or s3://, gs:// and the like")
        self._system, self._root = filesystem_of(self.place)

    def __str__(self) -> str:
        return shown(self.place)

    def holds(self, place: str) -> bool:
        """Whether a path, or a URL as `shown` gives it, is inside it."""
        if self._folder is None:  # fsspec lists "az://" as "abfs://", and the like
            return is_remote(place) and self._system._strip_protocol(place).startswith(f"{self._root}/")
        return not is_remote(place) and self._folder.resolve() in text_path(place).resolve().parents

    def names(self, folder: str = "") -> set[str]:
        """Names of the objects in one of its folders, or at its top; empty if there is none."""
        if self._folder is not None:
            inside = self._folder / folder
            return {entry.name for entry in inside.iterdir()} if inside.is_dir() else set()
        with suppress(FileNotFoundError), self._explained(folder, FileNotFoundError):
            self._system.invalidate_cache()  # of listings: others write here too
            return {posixpath.basename(path) for path in self._system.ls(self._path(folder), detail=False)}
        return set()

    def read(self, name: str) -> bytes | None:
        """One object; None if there is none."""
        with suppress(FileNotFoundError), self._explained(name, FileNotFoundError):
            if self._folder is not None:
                return (self._folder / name).read_bytes()
            return self._system.cat_file(self._path(name))
        return None

    def write(self, name: str, content: bytes) -> None:
        """Write one object, in place of one that is there."""
        if self._folder is not None:
            replace_file(self._folder / name, content)
            return
        with self._explained(name):
            self._system.pipe_file(self._path(name), content, **self._in_one_request())

    def create(self, name: str, content: bytes) -> bool:
        """Write one object unless it is there already; of several processes that do so one succeeds.

        Returns:
            Whether it was this one.
        """
        if self._folder is not None:
            with explained(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / f".{name}.lock", timeout=_LOCK_SECONDS):
                if (self._folder / name).exists():
                    return False
                replace_file(self._folder / name, content)
            return True
        with self._explained(name):
            try:
                self._system.pipe_file(self._path(name), content, mode="create", **self._in_one_request())
            except Exception as error:
                if isinstance(error, FileExistsError) or "PreconditionFailed" in repr(error):
                    return False
                raise
        return True

    def remove(self, name: str) -> None:
        """Take one object away, if it is there."""
        if self._folder is not None:
            (self._folder / name).unlink(missing_ok=True)
            return
        with suppress(FileNotFoundError), self._explained(name, FileNotFoundError):
            self._system.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name)

    def _in_one_request(self) -> dict[str, Any]:
        # s3fs would send more than 100 MB in parts, which a killed process leaves behind
        return {"chunksize": _LARGEST_PUT} if "s3" in self._system.protocol else {}

    @contextmanager
    def _explained(self, name: str, *expected: type[Exception]) -> Generator[None]:
        """Make one line of what the store says, without what a URL may hold besides its path."""
        try:
            yield
        except expected:
            raise
        except Exception as error:
            if isinstance(error, OSError) and self._folder is not None:
                raise
            place = posixpath.join(str(self), name)
            said = reason_of(error) if isinstance(error, OSError) and error.strerror else str(error)
            reason = redacted(" ".join(said.split()))
            if is_refusal(error):
                told = f"{place} is refused ({reason}); check the address and your access to it"
                raise PermissionError(told) from error
            told = f"{place} cannot be used ({type(error).__name__}: {reason}); check the address and the network"
            raise ConnectionError(told) from error
