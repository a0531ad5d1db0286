"""Names of files as text: one form that opens again, for results; and one that is safe to print, for people."""

import os
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

HTTP = ("http://", "https://")
_AZURE = ("abfs", "abfss", "wasb", "wasbs")  # URLs name container@account: the part before @ is not a password
_SCHEME = "file:"
# control characters, ends of lines, what changes the direction of writing, and what stands for bytes that are not UTF-8
UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def path_text(path: str | os.PathLike[str]) -> str:
    r"""A path as valid text that `text_path`, and so every command, reads back; two paths never give one text.

    It is the path itself, newlines and all. Only a name with bytes that are not UTF-8, or one that begins like the
    text of such a name, becomes "file:" and the path's bytes with percent signs, as in RFC 8089.

    >>> path_text("a\nb.jpg"), path_text(os.fsdecode(b"caf\xe9.jpg")), path_text("file:x")
    ('a\nb.jpg', 'file:caf%E9.jpg', 'file:file%3Ax')
    """
    text = os.fspath(path)
    if text.startswith(_SCHEME) or any("\udc80" <= letter <= "\udcff" for letter in text):
        return _SCHEME + quote_from_bytes(os.fsencode(text))
    return text


def text_path(text: str | os.PathLike[str]) -> Path:
    r"""The path that `path_text` made a text of; a `file:///` address is read too.

    >>> os.fsencode(text_path("file:caf%E9.jpg"))
    b'caf\xe9.jpg'
    """
    text = os.fspath(text)
    if not text.startswith(_SCHEME):
        return Path(text)
    place = text.removeprefix(_SCHEME)
    return Path(os.fsdecode(unquote_to_bytes(place.removeprefix("//") if place.startswith("///") else place)))


def given_path(text: str | os.PathLike[str]) -> Path:
    """The path that somebody names: as `text_path` reads it, or a file that happens to be called so."""
    path = text_path(text)
    return Path(text) if os.path.lexists(text) and not os.path.lexists(path) else path


def escaped(text: str) -> str:
    r"""Text on one line that cannot drive a terminal: control and bidirectional characters are spelled out.

    >>> escaped("two\nlines, a \x1b[31mcolor, \u202egpj.exe")
    'two\\nlines, a \\x1b[31mcolor, \\u202egpj.exe'
    """
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def is_remote(source: object) -> bool:
    """Whether a name is a URL rather than a path; a `Path` never is."""
    return isinstance(source, str) and "://" in source


def was_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is what became of a URL: a `Path` loses one of its slashes.

    >>> was_url(Path("https://host/cat.jpg")), was_url("file:/home/caf%E9.jpg"), was_url("C:/cat.jpg")
    (True, False, False)
    """
    return re.match(r"(?!file:)[a-z][a-z0-9+.-]+:/", os.fspath(path)) is not None


def remedy_for(missing: str | os.PathLike[str]) -> str:
    """What to do about a path that leads nowhere."""
    return "download it first" if was_url(missing) else "check the path"


def local_name(source: str) -> str:
    """The path that a `file:///` URL means; other names as they are. fsspec would write such a file piece by piece.

    >>> local_name("file:///a%20b/"), local_name("s3://bucket/a%20b/")
    ('/a b', 's3://bucket/a%20b/')
    """
    return os.fspath(text_path(source)) if source.startswith(f"{_SCHEME}///") else source


def shown(place: object) -> str:
    """A path as it is, or a URL as messages and records may hold it: without password and without a signed query.

    >>> shown("https://me:secret@host/x.tar?signature=abc"), shown("s3://bucket/what? #1.jpg")
    ('https://host/x.tar', 's3://bucket/what? #1.jpg')
    >>> shown("abfs://container@account.dfs.core.windows.net/x.tar")
    'abfs://container@account.dfs.core.windows.net/x.tar'
    >>> shown("zip://cat.jpg::https://me:secret@host/x.zip")
    'zip://cat.jpg::https://host/x.zip'
    """
    if not is_remote(place):
        return str(place)
    if len(chain := re.split(r"::(?=\w[\w+.-]*://)", str(place))) > 1:  # fsspec's: each link has an address of its own
        return "::".join(map(shown, chain))
    scheme, host, path = split_url(str(place))
    return f"{scheme}://{host if scheme in _AZURE else host.rpartition('@')[2]}{path}"


def url_path(url: str) -> str:
    """The path within a URL, in which suffixes and patterns are looked for."""
    return split_url(url)[2]


def split_url(url: str) -> tuple[str, str, str]:
    """(scheme, host with user and password, path) of a URL; only http has a query, names in stores may hold a "?"."""
    is_http = any(part.startswith(HTTP) for part in url.lower().split("::"))  # "simplecache::https://…", too
    scheme, _, rest = (url.partition("#")[0].partition("?")[0] if is_http else url).partition("://")
    host, slash, path = rest.partition("/")
    return scheme, host, slash + path


def redacted(text: str) -> str:
    """Text, such as an error message, with its URLs as `shown` gives them."""
    return re.sub(r"\w[\w+.-]*://[^\s'\"]+", lambda url: shown(url[0]), text)


def broken_link(path: Path) -> str:
    """The reason why a link leads nowhere; empty if the path is not such a link."""
    with suppress(OSError):  # a name that is too long, say, is not a link either
        if path.is_symlink() and not path.exists():
            return f"is a link to {path.readlink()}, which is not there; mend the link, or name another path"
    return ""


def not_found(path: Path, message: str) -> FileNotFoundError:
    """The error for a path that leads nowhere; of a broken link every reader says the same."""
    reason = broken_link(path)
    return FileNotFoundError(f"{path}: {reason}" if reason else message)
