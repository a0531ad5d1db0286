"""Files behind a URL (http, s3, gs … whatever fsspec knows), read from their beginning, with patience."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, TypeVar

import fsspec

from convit.images.names import HTTP, redacted, shown, split_url

Item = TypeVar("Item")

WAITS = (1.0, 4.0, 16.0)  # seconds before each new attempt at a file that could not be read on
READ_AHEAD = 1 << 20  # bytes that are asked of the network at a time
_BUSY = (408, 429)  # the refusals of a server that can be asked again


class TransferError(OSError):
    """A remote file could not be read on; `final` says whether another attempt would end the same way."""

    def __init__(self, reason: str, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class _RemoteBytes(io.RawIOBase):
    """A remote file that is read from its beginning; every failure is a `TransferError`."""

    def __init__(self, file: Any, url: str) -> None:
        self._file, self._url = file, url

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _as_transfer_error(self._url):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def open_remote(url: str) -> Generator[BinaryIO]:
    """Open a remote file at its beginning; raises the errors of `read_on`, and `TransferError` for what may pass."""
    system, path = filesystem_of(url)
    with _as_transfer_error(url):
        # Over HTTP one request for the whole file, for servers without ranges too.
        file = system.open(path, "rb", **({"block_size": 0} if url.startswith(HTTP) else {}))
    with file:
        # many small reads of whoever parses it, few large ones of the network
        yield io.BufferedReader(_RemoteBytes(file, url), READ_AHEAD)


def read_on(url: str, read: Callable[[BinaryIO], Iterator[Item]]) -> Iterator[Item]:
    """What `read` yields of a remote file; after a failure it is read anew, past what was already given.

    Raises:
        ConnectionError: the file could not be read on after some attempts; the message says what to do.
        FileNotFoundError: the server has no such file.
        ImportError: the package for this kind of URL is not installed.
        PermissionError: the server refuses.
        ValueError: fsspec knows no such kind of URL.
    """
    given = failures = 0
    while True:
        try:
            with open_remote(url) as file:
                for item in itertools.islice(read(file), given, None):
                    given, failures = given + 1, 0
                    yield item
            return
        except TransferError as error:
            if error.final:
                raise _refused(url, error) from error
            if failures == len(WAITS):
                raise ConnectionError(
                    f"{shown(url)} cannot be read ({error}) after {failures + 1} attempts; check the address and the "
                    f"network, then start again (training: with --resume)"
                ) from error
            time.sleep(WAITS[failures])
            failures += 1


def read_remote(url: str) -> bytes:
    """The whole of a small remote file; raises the errors of `read_on`."""
    return b"".join(read_on(url, lambda file: iter([file.read()])))


def fetch_all(urls: Sequence[str]) -> list[bytes]:
    """The whole of some small remote files, those of one store side by side; raises the errors of `read_on`."""
    places, found = [filesystem_of(url) for url in urls], dict[int, Any]()
    for system in dict.fromkeys(system for system, _ in places):
        here = [place for place, (each, _) in enumerate(places) if each == system]
        whole = [None] * len(here)
        # otherwise s3fs requests each size first, to fetch large files in parts
        at_once = {"max_concurrency": 1} if "s3" in system.protocol else {}
        # `cat` would read "[1]" as a pattern
        contents = system.cat_ranges([places[each][1] for each in here], whole, whole, on_error="return", **at_once)
        found.update(zip(here, contents, strict=True))
    # one that failed is asked for again with patience, which raises where it must
    return [found[place] if isinstance(found[place], bytes) else read_remote(url) for place, url in enumerate(urls)]


class RemoteFile(NamedTuple):
    """What a server says of a file without sending it.

    Attributes:
        url: where it is.
        size: bytes; -1 if it is not said.
        mark: ETag, or time of change, with its name; "no etag" without either.
    """

    url: str
    size: int
    mark: str


def remote_file(url: str) -> RemoteFile:
    """Ask a server for a file's size and mark.

    Raises:
        ConnectionError: the server cannot be reached.
        FileNotFoundError, ImportError, PermissionError, ValueError: as `read_on`.
    """
    return _described(url, _asked(url, lambda system, path: system.info(path)))


def remote_identity(url: str) -> str:
    """A remote file's mark and size in one line; raises the errors of `remote_file`."""
    file = remote_file(url)
    return f"{file.mark}, {None if file.size < 0 else file.size} bytes"


def list_files(pattern: str) -> list[RemoteFile]:
    """The files that a URL with * means, or all under one ending in /, sorted; raises the errors of `remote_file`."""
    scheme, host, inside = split_url(pattern.rstrip("/"))

    def listed(system: Any, path: str) -> list[RemoteFile]:
        system.invalidate_cache()
        found = system.find(path, detail=True) if pattern.endswith("/") else system.glob(path, detail=True)
        # a store's own paths may lack the host: "container/a.jpg" of "abfs://container@account/a.jpg"
        before = path.rstrip("/").removesuffix(inside)
        fits = path.rstrip("/").endswith(inside) and "*" not in host
        return [
            _described(f"{scheme}://{host}{name[len(before) :]}" if fits else system.unstrip_protocol(name), info)
            for name, info in sorted(found.items())
            if info["type"] == "file" and (name.startswith(before) or not fits)
        ]

    return _asked(pattern, listed)


def _described(url: str, info: Mapping[str, Any]) -> RemoteFile:
    marks = {key.lower(): value for key, value in info.items()}
    names = ("etag", "md5hash", "content-md5", "last-modified", "lastmodified", "mtime")
    mark = next((f"{name} {marks[name]}" for name in names if marks.get(name)), "no etag")
    size = marks.get("size")
    return RemoteFile(url, -1 if size is None else int(size), mark)


def _asked(url: str, question: Callable[[Any, str], Any]) -> Any:
    system, path = filesystem_of(url)
    try:
        with _as_transfer_error(url):
            return question(system, path)
    except TransferError as error:
        if error.final:
            raise _refused(url, error) from error
        raise _unreachable(url, error) from error


def _unreachable(url: str, error: Exception) -> ConnectionError:
    reason = redacted(str(error) or type(error).__name__)
    return ConnectionError(f"{shown(url)} cannot be reached ({reason}); check the address and the network")


def _refused(url: str, error: TransferError) -> PermissionError:
    return PermissionError(f"{shown(url)} is refused ({error}); check the address and the access that you have to it")


def filesystem_of(url: str) -> tuple[Any, str]:
    """The file system behind a URL, and the path in it; raises `ConnectionError` and others as `read_on` does."""
    protocol = url.partition("://")[0]
    try:
        options: dict[str, Any] = {}
        if url.startswith(HTTP):
            import aiohttp

            # only silence ends a transfer, not its length
            options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)}
        return fsspec.url_to_fs(url, **options)  # kept by fsspec per process, and made anew after a fork
    except ImportError as error:
        raise ImportError(
            f"{protocol}:// addresses need another package ({error}); for http and S3: pip install 'convit[http,s3]'"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{shown(url)} cannot be opened ({error}); use https://, s3:// or another protocol of fsspec"
        ) from error
    except Exception as error:  # of a protocol that connects at once, such as ftp
        raise _unreachable(url, error) from error


@contextmanager
def _as_transfer_error(url: str) -> Generator[None]:
    try:
        yield
    except FileNotFoundError as error:
        # fsspec says this of every HTTP failure while it asks for the size; only its cause has the server's answer
        cause = error.__cause__
        if cause is not None and _status(cause) not in (404, 410):
            raise _transfer_error(cause) from error
        raise FileNotFoundError(f"there is no {shown(url)}; check the address and the numbers in its braces") from error
    except Exception as error:  # every protocol brings exceptions of its own
        raise _transfer_error(error) from error


def _transfer_error(error: BaseException) -> TransferError:
    status = _status(error)
    # an HTTP error's own words hold the whole URL, with what `shown` leaves out
    reason = f"the server answers with status {status}" if status else f"{type(error).__name__}: {redacted(str(error))}"
    return TransferError(reason, final=is_refusal(error) or (400 <= status < 500 and status not in _BUSY))


def is_refusal(error: BaseException) -> bool:
    """Whether a store denied access, or no credentials were found."""
    return isinstance(error, PermissionError) or "Credentials" in type(error).__name__


def _status(error: BaseException) -> int:
    status = getattr(error, "status", 0)
    return status if isinstance(status, int) else 0
