"""The service on a port: uvicorn with uvloop and httptools, stopped without losing a request, and its log."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from math import ceil
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from convit.serving.options import ServiceOptions

_TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 91\r\n\r\n"
    b'{"error":{"code":"too_slow","message":"the head of the request did not come in good time"}}'
)


def bind(host: str, port: int) -> socket.socket:
    """Take a port before models are loaded, if it is free; it refuses connections until the service listens."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise OSError(f"{host}:{port}: {error.strerror}; choose another with --host and --port") from None
    return bound


class _PatientProtocol(HttpToolsProtocol):
    """uvicorn's, which gives the head of a request no more than its time either."""

    seconds = 30.0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._late = self.loop.call_later(self.seconds, self._give_up)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._late = self._late or self.loop.call_later(self.seconds, self._give_up)

    def on_headers_complete(self) -> None:
        self._forget()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_SLOW)
            self.transport.close()


class _Server(uvicorn.Server):
    announce: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.announce()


def run_server(app: Any, bound: socket.socket, options: ServiceOptions, announce: Callable[[], None]) -> None:
    """Serve an app on a socket until SIGTERM or Ctrl-C, finish what was accepted, and raise what the handler raises.

    `announce` is called when the service listens.
    """
    protocol = type("Protocol", (_PatientProtocol,), {"seconds": options.seconds})
    config = uvicorn.Config(
        app,
        http=protocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=ceil(2 * options.seconds),  # no request takes longer, unless its client reads slowly
    )
    server = _Server(config)
    server.announce = announce
    server.run([bound])


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if text.startswith("{"):  # a request's line is JSON already
            return text
        line = {"time": round(time.time(), 3), "level": record.levelname.lower(), "message": text}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


@contextmanager
def log_as_json() -> Generator[None]:
    """Log requests unless quiet, and always warnings, uvicorn's too, as lines of JSON on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logs = [logging.getLogger(name) for name in ("convit.serving", "uvicorn.error")]
    logs[1].setLevel(logging.WARNING)
    for log in logs:
        log.addHandler(handler)
        log.propagate = False
    try:
        yield
    finally:
        for log in logs:
            log.removeHandler(handler)
            log.propagate = True
