"""What a service allows and how much of it; needs neither FastAPI nor torch."""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from convit.inference.options import DEFAULT_MODEL, RunOptions

_KEY = re.compile(r"[\x21-\x7e]{16,256}")
_ORIGIN = re.compile(r"https?://[^/\s,]+")


@dataclass(frozen=True, kw_only=True)
class ServiceOptions:
    """How a service guards itself.

    Attributes:
        keys: one of these must come with a request, as `Authorization: Bearer KEY` or `X-API-Key: KEY`; empty: none.
        hosts: names for which the service answers besides `localhost` and IP addresses.
        origins: web pages ("https://example.org") that may call it; its own page always may.
        root_path: the path under which a proxy shows the service.
        url_hosts: hosts from which images may be fetched that are given as https URLs; never from private addresses.
        body_bytes: of one request.
        bytes_in_flight: of all requests that are being read or worked on; more are refused for a while.
        images: in one request.
        queue: images that may wait for a model; more are refused for a while.
        seconds: in which a request must have been received, and in which it must have been answered after that.

    Raises:
        ValueError: a limit is below 1 or not finite, or an origin is not one.
    """

    keys: tuple[str, ...] = field(default=(), repr=False)  # keeps them out of logs
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    root_path: str = ""
    url_hosts: tuple[str, ...] = ()
    body_bytes: int = 32 * 2**20
    bytes_in_flight: int = 512 * 2**20
    images: int = 64
    queue: int = 256
    seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("body_bytes", "bytes_in_flight", "images", "queue", "seconds"):
            if not 1 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be at least 1, and finite")
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(f"the origin {origin!r} is not scheme and host, such as https://example.org")
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise ValueError(f"root_path is {self.root_path!r}, but must begin with / and not end with it")


@dataclass(frozen=True, kw_only=True)
class ServiceSetup:
    """What a service runs.

    Attributes:
        models: as `load_served` takes them, the default first.
        index: of images to search.
        service: limits, keys and names.
        run: how the models are run.
        replicas: least and most on Ray; between them by the requests that wait.

    Raises:
        ValueError: the least number of replicas is below 1 or above the most.
    """

    models: tuple[str, ...] = (DEFAULT_MODEL,)
    index: str | Path | None = None
    service: ServiceOptions = field(default_factory=ServiceOptions)
    run: RunOptions = field(default_factory=RunOptions)
    replicas: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if not 1 <= self.replicas[0] <= self.replicas[1]:
            raise ValueError(f"replicas are {self.replicas}, but must be the least, from 1 on, and the most")


def parse_replicas(text: str) -> tuple[int, int]:
    """Read a number of replicas, or the least and the most; raises `ValueError` if it is neither.

    >>> parse_replicas("2"), parse_replicas("1-4")
    ((2, 2), (1, 4))
    """
    least, _, most = text.partition("-")
    if not all(each.isascii() and each.isdigit() for each in (least, most or least)):
        raise ValueError(f"--replicas is {text!r}, but must be a number, or the least and the most, such as 1-4")
    return int(least), int(most or least)


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("example.org")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_keys(file: Path) -> tuple[str, ...]:
    """Read API keys, one per line; empty lines and those that begin with # are skipped.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no key, or one that is too short to be safe. The key itself is not named.
    """
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not text; write one key per line") from None
    keys = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if not keys:
        raise ValueError(f"{file} holds no key; write one per line, such as openssl rand -hex 32 prints")
    for number, key in keys:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{file}, line {number}: a key has 16 to 256 printable ASCII characters, without spaces")
    return tuple(key for _, key in keys)
