"""What data are, by sha256: of single images while these are read, and of whole files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any


class ContentDigests:
    """The sha256 of each image, noted while images are read, so that they need not be read again for it.

    Args:
        count: number of images.
    """

    def __init__(self, count: int) -> None:
        self._found: list[bytes | None] = [None] * count  # b"" for one that cannot be read

    def note(self, place: int, content: bytes | None) -> None:
        """Take in what was read at a place; None for what could not be read."""
        self._found[place] = b"" if content is None else hashlib.sha256(content).digest()

    def lines(self, names: Sequence[object], read: Callable[[int], bytes | None]) -> Iterable[bytes]:
        """The lines "sha256  name" of all images, in order.

        Args:
            names: what stands behind the sha256 of each image.
            read: gives the content of an image that was not read yet.
        """
        for place, name in enumerate(names):
            if self._found[place] is None:
                self.note(place, read(place))
            found = self._found[place]
            yield f"{found.hex() if found else 'unreadable'}  {name}\n".encode("utf-8", "surrogateescape")


def sha256_of_lines(lines: Iterable[bytes]) -> str:
    """One sha256 over lines, in hexadecimal."""
    listing = hashlib.sha256()
    for line in lines:
        listing.update(line)
    return listing.hexdigest()


def identity_of_files(kind: str, files: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What data in files are.

    Args:
        kind: how they are stored.
        files: (name, sha256) of each.

    Returns:
        `kind`; `files`, name and sha256 of each; and `sha256`: of one file its own, else over the lines
        "sha256  name".
    """
    listed = [{"name": name, "sha256": sha256} for name, sha256 in files]
    lines = (f"{sha256}  {name}\n".encode("utf-8", "surrogateescape") for name, sha256 in files)
    return {"kind": kind, "files": listed, "sha256": files[0][1] if len(files) == 1 else sha256_of_lines(lines)}
