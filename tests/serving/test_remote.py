"""Images by URL: from hosts that are allowed, and from no private address, whatever their names lead to."""

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from convit.serving import bodies, remote
from convit.serving.errors import ServiceError
from convit.serving.options import ServiceOptions
from convit.serving.service import in_time

ALLOWED = ServiceOptions(url_hosts=("images.example",))


def _code(url: str, options: ServiceOptions = ALLOWED) -> str:
    with pytest.raises(ServiceError) as refused:
        asyncio.run(remote.fetch(url, options, options.body_bytes))
    assert refused.value.status_code == 400
    return refused.value.code


@pytest.mark.parametrize(
    "url",
    [
        "http://images.example/cat.jpg",
        "https://other.example/cat.jpg",
        "https://images.example.other.example/cat.jpg",
        "https://images.example@other.example/",
        "https://name:word@images.example/",
        "https://images.example:8443/",
        "https://127.0.0.1/",
        "https://[::1/",
        "https://images.example:port/",
        "https://images.example/a b",
        "https://images.example/\r\nHost: other",
    ],
)
def test_other_urls_are_refused_before_anything_is_looked_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked up"))
    assert _code(url) == "url_not_allowed"


def test_nothing_is_fetched_unless_a_list_allows_it() -> None:
    assert _code("https://images.example/cat.jpg", ServiceOptions()) == "url_not_allowed"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "::1", "fd00::1", "0.0.0.0"]
)
@pytest.mark.parametrize("among", [[], ["93.184.216.34"]])
def test_private_addresses_are_not_connected_to(
    address: str, among: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (each, 443)) for each in (*among, address)]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("connected"))
    assert _code("https://images.example/cat.jpg") == "url_failed"


def test_the_address_that_was_looked_at_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def connect(place: Any, *_: Any) -> None:
        asked.append(place)
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 0, "", ("93.184.216.34", 443))])
    monkeypatch.setattr(socket, "create_connection", connect)
    assert _code("https://images.example/cat.jpg?size=1") == "url_failed"
    assert asked == [("93.184.216.34", 443)]


def test_fetching_keeps_the_time_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        request = Request({"type": "http", "state": {"ends": asyncio.get_running_loop().time() + 0.05}})
        service: Any = SimpleNamespace(options=ALLOWED, check_count=lambda _: None)
        await bodies.images_of(["https://images.example/cat.jpg"] * 9, request, service)

    monkeypatch.setattr(bodies, "fetch", lambda *_: asyncio.sleep(10))
    with pytest.raises(ServiceError) as refused:
        asyncio.run(ask())
    assert (refused.value.status_code, refused.value.code) == (503, "deadline_exceeded")


def test_all_images_of_a_request_share_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        service: Any = SimpleNamespace(options=ServiceOptions(url_hosts=("images.example",), body_bytes=10))
        service.check_count = lambda _: None
        await bodies.images_of(["https://images.example/cat.jpg"] * 3, Request({"type": "http"}), service)

    asked: list[int] = []

    async def fetch(_url: str, _options: ServiceOptions, most: int) -> bytes:
        asked.append(most)
        return b"four"

    monkeypatch.setattr(bodies, "fetch", fetch)
    asyncio.run(ask())
    assert asked == [10, 6, 2]


def test_all_parts_of_a_request_share_its_time() -> None:
    async def ask() -> float:
        request, begin = Request({"type": "http"}), asyncio.get_running_loop().time()
        async with in_time(request, ServiceOptions(seconds=1)):  # such as fetching
            await asyncio.sleep(0.7)
        with pytest.raises(ServiceError, match="took too long"):
            async with in_time(request, ServiceOptions(seconds=1)):  # such as computing
                await asyncio.sleep(10)
        return asyncio.get_running_loop().time() - begin

    assert 0.9 < asyncio.run(ask()) < 1.6
