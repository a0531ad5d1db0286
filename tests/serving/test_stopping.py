"""SIGTERM and Ctrl-C: what was accepted is answered, and nothing is left behind."""

import base64
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import httpx
import pytest

from tests.serving.conftest import Running

Start = Callable[..., AbstractContextManager[Running]]
CLIENTS = 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_accepted_requests_are_answered(start: Start, cat: bytes, number: signal.Signals) -> None:
    with start("--queue", "1000") as service:
        answers: list[int | str] = []
        threads = [threading.Thread(target=_send, args=(service, cat, answers)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        _wait_until_in_flight(service)
        service.process.send_signal(number)
        for thread in threads:
            thread.join(60)
        assert service.process.wait(30) == 0
        log = service.log.read_text()
        with pytest.raises(httpx.ConnectError), service.client() as client:
            client.get("/healthz")
    assert answers == [200] * CLIENTS
    assert log.endswith("convit: stopped\n")
    assert "Traceback" not in log


def _send(service: Running, image: bytes, answers: list[int | str]) -> None:
    with service.client() as client:
        try:
            answers.append(client.post("/v1/classify", files=[("images", image)] * 60).status_code)
        except httpx.HTTPError as error:
            answers.append(repr(error))


def _wait_until_in_flight(service: Running) -> None:
    ends = time.monotonic() + 30
    with service.client() as client:
        while f"convit_requests_in_flight {CLIENTS + 1}.0" not in client.get("/metrics").text:
            assert time.monotonic() < ends
            time.sleep(0.005)


def test_a_client_that_does_not_read_does_not_hold_up_the_end(start: Start, cat: bytes) -> None:
    with start("--timeout", "2") as service, socket.socket() as connection:
        host, _, port = service.url.removeprefix("http://").partition(":")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((host, int(port)))
        body = json.dumps({"images": [base64.b64encode(cat).decode()] * 64}).encode()
        head = "POST /v1/embed?kind=tokens HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert connection.recv(12) == b"HTTP/1.1 200"
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 0


def test_a_slow_sender_does_not_hold_up_the_end(start: Start) -> None:
    with start("--timeout", "1") as service:
        host, _, port = service.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
            time.sleep(0.2)
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(10) == 0
