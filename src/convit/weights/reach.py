"""Whether a server can be reached, found out in seconds instead of after a client's long silence."""

from __future__ import annotations

import logging
import socket
import urllib.error
import urllib.request
from http.client import HTTPException
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

_log = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0  # long enough for one lost packet to be sent again
ANSWER_SECONDS = 10.0
_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks5": 1080, "socks5h": 1080}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None  # a redirect is an answer; where it leads does not matter here


def why_unreachable(url: str) -> str | None:
    """Return why a server cannot be reached, or None if it answers a HEAD request for `url`.

    Known after `CONNECT_SECONDS` at most, or after `ANSWER_SECONDS` (with a warning meanwhile) where it accepts
    connections and then says nothing. Proxies are honored as everywhere in Python (`HTTPS_PROXY`, `NO_PROXY` and the
    like). Any HTTP answer counts, and so does a certificate that Python's own store refuses: clients may bring another.
    """
    connected, reasons = Event(), list[str]()
    # In a thread, since looking up a name has no time limit.
    probe = Thread(target=_probe, args=(url, connected, reasons), daemon=True)
    probe.start()
    probe.join(CONNECT_SECONDS)
    if probe.is_alive() and not connected.is_set():
        return f"no connection within {CONNECT_SECONDS:g} s"
    if probe.is_alive():
        host = urlsplit(url).netloc
        _log.warning("%s accepts connections but does not answer yet; waiting up to %g s", host, ANSWER_SECONDS)
        probe.join(ANSWER_SECONDS)
    if probe.is_alive():
        return f"no answer within {ANSWER_SECONDS:g} s"
    return reasons[0] if reasons else None


def _probe(url: str, connected: Event, reasons: list[str]) -> None:
    try:
        socket.create_connection(_first_hop(url), CONNECT_SECONDS).close()
    except TimeoutError:
        return reasons.append(f"no connection within {CONNECT_SECONDS:g} s")
    except (OSError, ValueError) as error:
        return reasons.append(getattr(error, "strerror", None) or str(error))
    connected.set()
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        opener.open(urllib.request.Request(url, method="HEAD"), timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError as answer:
        answer.close()
    except (OSError, ValueError, HTTPException) as error:
        # Only silence and a proxy that cannot go on are conclusive; the rest is for the client to judge.
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            reasons.append(f"no answer within {ANSWER_SECONDS:g} s")
        elif "Tunnel connection failed" in str(reason):
            reasons.append(f"the proxy refuses: {reason}")


def _first_hop(url: str) -> tuple[str, int]:
    """Host and port to which a request for `url` connects: the server's, or the proxy's."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(parts.netloc):
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.hostname is None:
        raise ValueError(f"{url!r} names no host")
    return parts.hostname, parts.port or _PORTS.get(parts.scheme, 443)
