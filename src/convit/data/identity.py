"""Hashes that identify data: of single images while these are read, and of lists of files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

OF_LISTING = " of sizes and names, newest "  # in what `convit.data.fingerprint` says of single files


class ContentDigests:
    """The sha256 of each of `count` images, noted while these are read, so that they need not be read again for it."""

    def __init__(self, count: int) -> None:
        self._found: list[bytes | None] = [None] * count  # b"" for one that cannot be read

    def note(self, place: int, content: object) -> None:
        """Take in what was read at a place: bytes, or anything else for what could not be read."""
        self._found[place] = hashlib.sha256(content).digest() if isinstance(content, bytes) else b""

    def at(self, places: Iterable[int], read: Callable[[int], object]) -> list[bytes]:
        """The sha256 of each image at these places that can be read; `read` as for `lines`."""
        return [found for place in places if (found := self._at(place, read))]

    def lines(self, behind: Sequence[object], read: Callable[[int], object]) -> Iterable[bytes]:
        """The lines "sha256  name" of all images in order; `read` gives the content of one that was not read yet."""
        for place, name in enumerate(behind):
            found = self._at(place, read)
            yield hash_line(found.hex() if found else "unreadable", name)

    def _at(self, place: int, read: Callable[[int], object]) -> bytes | None:
        if self._found[place] is None:
            self.note(place, read(place))
        return self._found[place]


def same_listing(one: str, other: str) -> bool:
    """Whether two of `convit.data.fingerprint`'s values are of the same data, whenever files were changed or copied."""
    return one.partition(OF_LISTING)[0] == other.partition(OF_LISTING)[0]


def identity_of_files(kind: str, files: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What data in files are, from (name, sha256) of each: `kind`, `files` and `sha256`.

    The latter is that of a single file itself, else over the lines "sha256  name".
    """
    listed = [{"name": name, "sha256": sha256} for name, sha256 in files]
    over_all = sha256_of_lines(hash_line(sha256, name) for name, sha256 in files)
    return {"kind": kind, "files": listed, "sha256": files[0][1] if len(files) == 1 else over_all}


def sha256_of_lines(lines: Iterable[bytes]) -> str:
    """One sha256 over lines, in hexadecimal."""
    listing = hashlib.sha256()
    for line in lines:
        listing.update(line)
    return listing.hexdigest()


def hash_line(sha256: str, name: object) -> bytes:
    """The line "sha256  name" of what has been hashed."""
    return f"{sha256}  {name}\n".encode("utf-8", "surrogateescape")
