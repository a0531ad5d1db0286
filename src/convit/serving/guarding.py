"""What every request passes before it reaches a route: its id, its host, its origin, its key, the size of its body."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import re
from collections.abc import Mapping
from hashlib import sha256
from random import getrandbits
from time import perf_counter, time
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convit.serving.errors import ServiceError, busy, error_response, route_path
from convit.serving.metrics import Metrics
from convit.serving.options import ServiceOptions

_log = logging.getLogger("convit.serving.requests")
_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
# without a key: what a probe asks, and what shows nothing of anybody's images
OPEN_PATHS = frozenset(("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"))
_TIMEOUT = re.compile(r"\d{1,6}(?:\.\d{1,6})?", re.ASCII)
_NO_ANSWER = 499  # nginx's status for a client that left
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "authorization, content-type, x-api-key, x-request-id, x-request-timeout",
    "Access-Control-Max-Age": "600",
}
_EXPOSED = (b"access-control-expose-headers", b"retry-after, x-request-id, inference-header-content-length")
_SAFE_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
    b"cross-origin-resource-policy": b"same-origin",
}


class Guard:
    """ASGI middleware around the whole app: refuses what may not pass, counts and logs the rest.

    `sends_id`: whether answers get an X-Request-ID; false if a proxy in front adds it.
    """

    def __init__(self, app: ASGIApp, options: ServiceOptions, metrics: Metrics, *, sends_id: bool = True) -> None:
        self.app, self.options, self.metrics, self.sends_id = app, options, metrics, sends_id
        self._keys = [sha256(key.encode()).digest() for key in options.keys]
        self._hosts = {"localhost", *(host.lower() for host in options.hosts)}
        self._held = 0  # bytes of bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, method = perf_counter(), scope["method"]
        headers = {name.decode("latin-1"): text.decode("latin-1") for name, text in reversed(scope["headers"])}
        state = _begin(scope, headers)
        if method == "HEAD":  # what answers GET answers it too, without the body (RFC 9110, 9.3.2)
            scope = {**scope, "method": "GET"}
        body = _Body(self, receive, state.get("ends"))
        cors = self._cors(headers)
        status = _NO_ANSWER

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *cors, *_SAFE_HEADERS.items()]
                if self.sends_id:
                    message["headers"].append((b"x-request-id", state["request_id"].encode()))
            elif method == "HEAD":
                message["body"] = b""
            await send(message)

        self.metrics.in_flight.inc()
        try:
            if (refused := self._refuse(scope, headers)) is not None:
                await error_response(refused, scope)(scope, receive, answer)
            elif scope["method"] == "OPTIONS" and cors and "access-control-request-method" in headers:
                await Response(status_code=204, headers=_PREFLIGHT)(scope, receive, answer)
            else:
                await self.app(scope, body.receive, answer)
        except ClientDisconnect:
            state["reason"] = "client_left"
        except Exception as error:
            _log.error("request %s: unexpected %s", state["request_id"], type(error).__name__, exc_info=error)
            if status == _NO_ANSWER:
                told = ServiceError(500, "internal_error", "the service failed; its log says why")
                await error_response(told, scope)(scope, receive, answer)
        finally:
            self._held -= body.size
            self.metrics.in_flight.dec()
            self._note(scope, method, status, perf_counter() - start, body.size)

    def _refuse(self, scope: Scope, headers: Mapping[str, str]) -> ServiceError | None:
        """What is wrong with a request's head, if anything is."""
        host = headers.get("host", "")
        if not self._knows(host):
            told = "the service does not answer for this host name; start it with --allow-host to let it"
            return ServiceError(421, "unknown_host", told, reason="host")
        if not self._may_call(headers):
            told = "another web page may not call this service; start it with --allow-origin to let it"
            return ServiceError(403, "cross_origin", told, reason="origin")
        is_open = route_path(scope) in OPEN_PATHS or scope["method"] == "OPTIONS"
        if self._keys and not is_open and not self._has_key(headers):
            told = "the key is missing or wrong; send Authorization: Bearer KEY"
            return ServiceError(401, "invalid_key", told, {"WWW-Authenticate": "Bearer"}, reason="key")
        if "x-request-timeout" in headers and "ends" not in scope["state"]:
            return ServiceError(400, "invalid_timeout", "X-Request-Timeout is not a number of seconds, such as 2.5")
        size = headers.get("content-length", "0")
        if size.isdecimal() and int(size) > self.options.body_bytes:
            return self.too_large()
        return None

    def too_large(self) -> ServiceError:
        """The refusal of a body over the limit."""
        told = f"the body is larger than {self.options.body_bytes:,} bytes; send smaller or fewer images"
        return ServiceError(413, "body_too_large", told, {"Connection": "close"}, reason="size")

    def hold(self, size: int) -> None:
        """Count bytes of a body; raises `ServiceError` if all bodies together are too large."""
        if self._held + size > self.options.bytes_in_flight:
            raise busy("too_many_bytes", "too many large requests are being worked on; try again later", 2)
        self._held += size

    def _knows(self, host: str) -> bool:
        """Whether a Host header is ours: a DNS name can be pointed at this machine by anybody, an address cannot."""
        name = host.lower()
        name = name[1 : name.find("]")] if name.startswith("[") else name.partition(":")[0]
        if name.rstrip(".") in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _may_call(self, headers: Mapping[str, str]) -> bool:
        origin = headers.get("origin")
        if origin is None:
            return True
        return origin in self.options.origins or origin.partition("://")[2].lower() == headers.get("host", "").lower()

    def _has_key(self, headers: Mapping[str, str]) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        given = key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        digest = sha256(given.encode()).digest()
        matches = [hmac.compare_digest(digest, each) for each in self._keys]  # all of them, each in constant time
        return any(matches)

    def _cors(self, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
        origin = headers.get("origin")
        if origin not in self.options.origins:
            return []
        return [(b"access-control-allow-origin", origin.encode()), (b"vary", b"Origin"), _EXPOSED]

    def _note(self, scope: Scope, method: str, status: int, seconds: float, size: int) -> None:
        state = scope["state"]
        route = getattr(scope.get("route"), "path", "other")
        self.metrics.count_request(route, status, seconds, state.get("reason", ""))
        if _log.isEnabledFor(logging.INFO):
            line: dict[str, Any] = {
                "time": round(time(), 3),
                "request_id": state["request_id"],
                "method": method,
                "route": route,
                "status": status,
                "milliseconds": round(1000 * seconds, 2),
                "body_bytes": size,
            }
            if "code" in state:
                line["code"] = state["code"]
            _log.info("%s", json.dumps(line))


def _begin(scope: Scope, headers: Mapping[str, str]) -> dict[str, Any]:
    """What is noted of a request: its id, and when its client gives up."""
    state, given = scope.setdefault("state", {}), headers.get("x-request-id", "")
    state["request_id"] = given if _REQUEST_ID.fullmatch(given) else f"{getrandbits(64):016x}"
    if _TIMEOUT.fullmatch(seconds := headers.get("x-request-timeout", "")):
        state["ends"] = asyncio.get_running_loop().time() + float(seconds)
    return state


class _Body:
    """The body of one request on its way in: counted, and given no more than its time."""

    def __init__(self, guard: Guard, receive: Receive, ends: float | None) -> None:
        self._guard, self._receive = guard, receive
        self.size = 0
        latest = asyncio.get_running_loop().time() + guard.options.seconds
        self._ends = latest if ends is None else min(ends, latest)
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._ends):
                message = await self._receive()
            if asyncio.get_running_loop().time() >= self._ends:  # what was there already is not waited for
                raise TimeoutError
        except TimeoutError:
            told = (
                f"the request did not come within {self._guard.options.seconds:g} seconds, or its own; send it faster"
            )
            raise ServiceError(408, "too_slow", told, {"Connection": "close"}, reason="slow") from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            self._guard.hold(size)
            self.size += size
            if self.size > self._guard.options.body_bytes:
                raise self._guard.too_large()
        return message
