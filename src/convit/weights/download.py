"""Files behind plain addresses that publish no hash: it is recorded at the first download and checked from then on."""

from __future__ import annotations

import http.client
import json
import logging
import os
import urllib.error
import urllib.request
from datetime import UTC, datetime
from hashlib import sha256 as sha256_of
from pathlib import Path, PurePosixPath
from time import monotonic
from typing import Any, cast
from urllib.parse import urlsplit

from convit.output.files import explained, hash_file, replace_file
from convit.weights.progress import download_bar
from convit.weights.reach import ANSWER_SECONDS, why_unreachable

_log = logging.getLogger(__name__)

ATTEMPTS = 3
MOST_BYTES = 2**31  # of a file that no weight set describes
STALL_SECONDS = 60.0
LEAST_RATE = 1000  # bytes a second
_CHUNK = 1 << 20
_MAGIC = (b"PK\x03\x04", b"\x80\x02")  # how PyTorch's files begin: a zip archive, or before version 1.6 a pickle
_BROKEN_TRANSFER = (http.client.HTTPException, TimeoutError, ConnectionError, urllib.error.URLError)


class Meter:
    """Counts the bytes of a transfer, and ends one that brings more than `most` or hardly any."""

    def __init__(self, most: int) -> None:
        self._most, self._arrived = most, 0
        self._recent, self._since = 0, monotonic()

    def expect(self, total: int) -> None:
        """Refuse a file by its size, by an `OSError` without a number, since it is not the system's."""
        if total > self._most:
            raise OSError(f"it has more than {self._most:,} bytes, the most that these weights can have")

    def add(self, count: int) -> None:
        """Take note of bytes that have arrived; raises the errors of `expect` and `check`."""
        self._arrived += count
        self._recent += count
        self.expect(self._arrived)
        self.check()

    def check(self) -> None:
        """Raise `TimeoutError` if fewer than `LEAST_RATE` bytes a second have arrived in `STALL_SECONDS`."""
        if monotonic() - self._since < STALL_SECONDS:
            return
        if self._recent < LEAST_RATE * STALL_SECONDS:
            raise TimeoutError(f"fewer than {LEAST_RATE:,} bytes a second arrived in {STALL_SECONDS:g} s")
        self._recent, self._since = 0, monotonic()


def default_folder() -> Path:
    """Return the folder for files that come from no hub: `convit` in `XDG_CACHE_HOME`, or else in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "convit"


def is_kept(url: str, folder: Path) -> bool:
    """Return whether an earlier download left its file, without looking into it."""
    try:
        path = _place(url, folder)
        return path.is_file() and _notes(path).is_file()
    except PermissionError:  # of no use; what fetches it next says why
        return False


def cached_url(url: str, folder: Path) -> Path | None:
    """Return the file of an earlier download if it still has the hash recorded then, else None; without the network."""
    if not is_kept(url, folder):
        return None
    path = _place(url, folder)
    if hash_file(path) != _read_json(_notes(path)).get("sha256"):
        _log.warning("%s no longer has the sha256 recorded at its download; it will be fetched again", path)
        return None
    return path


def fetch_url(url: str, folder: Path, sha256: str | None = None, most: int = MOST_BYTES) -> Path:
    """Fetch a PyTorch file into a folder, or give the one that an earlier call fetched.

    It is received as `<name>.part`, which a later call takes up again where the server allows it, and renamed when it
    is complete and has the right hash: `sha256`, or what the first download recorded in `<name>.json` beside it.

    Raises:
        ConnectionError: the server cannot be reached, refuses, stops in the middle, hardly sends anything, or sends
            something that is not a PyTorch file, or more than `most` bytes.
        PermissionError: the folder cannot be written.
        OSError: the disk is full, or the file has another hash than it must have.
    """
    from filelock import FileLock

    with explained(folder, "set XDG_CACHE_HOME to a folder elsewhere"):
        folder.mkdir(parents=True, exist_ok=True)
        # Two processes must not write into one unfinished file.
        with FileLock(folder / f".{_name(url)}.lock"):
            path = cached_url(url, folder)
            if path is not None:
                return path
            if (reason := why_unreachable(url)) is not None:
                raise ConnectionError(f"cannot reach {urlsplit(url).netloc} ({reason})")
            path = _place(url, folder)
            part = path.with_name(f"{path.name}.part")
            _receive_all(url, part, most)
            _accept(url, part, path, sha256)
            return path


def _receive_all(url: str, part: Path, most: int) -> None:
    total, problem = None, ""
    for _ in range(ATTEMPTS):
        total, problem = _receive(url, part, most)
        if not problem:
            return
    size = part.stat().st_size if part.is_file() else 0
    raise ConnectionError(
        f"{url} stopped after {size} of {total or 'unknown'} bytes ({problem}); run it again to go on from there"
    )


def _receive(url: str, part: Path, most: int) -> tuple[int | None, str]:
    """Receive the file, or what an earlier attempt left missing: its bytes as the server said, and what went wrong."""
    request, have = _request(url, part)
    total, meter = None, Meter(most)
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as response:
            if response.status != http.client.PARTIAL_CONTENT:
                have = 0
            total = None if response.length is None else have + response.length
            meter.expect(total or have)
            meter.add(have)
            validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
            replace_file(_notes(part), json.dumps({"validator": validator}).encode())
            with part.open("ab" if have else "wb") as file, download_bar(_name(url), have, total) as advance:
                while chunk := response.read1(_CHUNK):  # what is there: a whole chunk may take hours
                    meter.add(len(chunk))
                    file.write(chunk)
                    advance(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
            return total, "what was kept of it fits no longer"
        raise ConnectionError(f"{url} answered {error.code} {error.reason}") from error
    except _BROKEN_TRANSFER as error:
        return total, str(error) or type(error).__name__
    except OSError as error:
        if error.errno is not None:
            raise
        part.unlink(missing_ok=True)
        raise ConnectionError(f"{url} sends something else: {error}") from error
    return total, "" if total in (None, part.stat().st_size) else "the connection was closed"


def _request(url: str, part: Path) -> tuple[urllib.request.Request, int]:
    """A request for the bytes after those in `part`, if they can be told to belong to the same file; else for all."""
    validator = _read_json(_notes(part)).get("validator") or ""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "convit", "Accept-Encoding": "identity"})
    if not have or not validator or validator.startswith("W/"):  # HTTP allows no weak validator here
        return request, 0
    request.add_header("Range", f"bytes={have}-")
    request.add_header("If-Range", validator)
    return request, have


def _accept(url: str, part: Path, path: Path, sha256: str | None) -> None:
    """Rename a complete file if it is right, and record its hash the first time."""
    with part.open("rb") as file:
        beginning = file.read(4)
    if not beginning.startswith(_MAGIC):
        part.unlink()
        raise ConnectionError(f"{url} sent no PyTorch file; is a login page or a proxy in between?")
    digest, size = hash_file(part), part.stat().st_size
    record = _notes(path)
    expected = sha256 or _read_json(record).get("sha256")
    if expected is not None and digest != expected:
        part.unlink()
        told = "the weight set states" if sha256 else "was recorded at the first download"
        remedy = "" if sha256 else f"; if you trust the new file, delete {record} and fetch it again"
        raise OSError(f"{url} sent a file of sha256 {digest}, but {expected} {told}{remedy}")
    if expected is None:
        _log.warning("%s: sha256 %s, recorded in %s and checked from now on (nobody publishes it)", url, digest, record)
    if not record.is_file():
        content = {"url": url, "sha256": digest, "bytes": size, "recorded": datetime.now(UTC).isoformat("T", "seconds")}
        replace_file(record, json.dumps(content, indent=2).encode() + b"\n")
    part.replace(path)
    _notes(part).unlink(missing_ok=True)


def _name(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name or "file"


def _place(url: str, folder: Path) -> Path:
    """Where a URL's file is kept: under its own name, unless that is taken by a file from another URL."""
    path = folder / _name(url)
    if _read_json(_notes(path)).get("url", url) == url:
        return path
    return path.with_name(f"{sha256_of(url.encode()).hexdigest()[:12]}-{path.name}")


def _notes(path: Path) -> Path:
    """The file beside a complete one that keeps its hash, or beside an unfinished one its validator."""
    return path.with_name(f"{path.name}.json")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", content) if isinstance(content, dict) else {}
