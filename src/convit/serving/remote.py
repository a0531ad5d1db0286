"""Images fetched from the few hosts that a service allows, and never from a private address."""

import asyncio
import http.client
import ipaddress
import socket
import ssl
from typing import Any
from urllib.parse import urlsplit

from convit.serving.errors import ServiceError
from convit.serving.options import ServiceOptions

_SECONDS = 10


async def fetch(url: str, options: ServiceOptions, most: int) -> bytes:
    """Fetch an image of at most so many bytes by https from a host that is allowed; redirects are not followed.

    Raises:
        ServiceError: the host is not allowed or has a private address, or the image cannot be fetched.
    """
    refused = ServiceError(400, "url_not_allowed", "images are not fetched from this URL; send the image itself")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
    except ValueError:
        raise refused from None
    is_listed = host in map(str.lower, options.url_hosts)
    if parts.scheme != "https" or not is_listed or port != 443 or parts.username is not None:
        raise refused
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii() or not path.isprintable() or " " in path:
        raise ServiceError(400, "url_not_allowed", "the URL's path must be percent-encoded; send the image itself")
    try:
        return await asyncio.to_thread(_get, host, path, most)
    except (OSError, http.client.HTTPException):
        told = "the image cannot be fetched from its URL; send the image itself"
        raise ServiceError(400, "url_failed", told) from None


class _Pinned(http.client.HTTPSConnection):
    """A connection to an address that was looked at, so that a second look-up cannot lead elsewhere."""

    def connect(self) -> None:
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        address: Any = found[0][4]
        if not all(ipaddress.ip_address(str(each[4][0])).is_global for each in found):
            raise OSError("a private address")
        connection = socket.create_connection((str(address[0]), self.port), self.timeout)
        self.sock = ssl.create_default_context().wrap_socket(connection, server_hostname=self.host)


def _get(host: str, path: str, most: int) -> bytes:
    connection = _Pinned(host, 443, timeout=_SECONDS)
    try:
        connection.request("GET", path, headers={"Accept": "image/*", "User-Agent": "convit"})
        answer = connection.getresponse()
        content = answer.read(most + 1) if answer.status == http.client.OK else b""
    finally:
        connection.close()
    if not content or len(content) > most:
        raise OSError("no image")
    return content
