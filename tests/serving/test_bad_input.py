"""Whatever is sent is answered with a 4xx or 503, a code and a sentence; and the service goes on."""

import base64
import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from convit.cli import main
from convit.serving.options import ServiceOptions
from tests.images.test_image_errors import huge_png
from tests.serving.conftest import NANO, Running, serving

KEY = "a-key-of-these-tests-alone"


JSON = {"content-type": "application/json"}
BAD: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "not an image": ("/v1/classify", {"content": b"GET / HTTP/1.1"}, 400, "invalid_image"),
    "empty": ("/v1/classify", {"content": b""}, 400, "no_image"),
    "pixels": ("/v1/classify", {"content": huge_png(30_000, 30_000)}, 400, "invalid_image"),
    "no such model": ("/v1/classify?model=../etc/passwd", {"content": b"x"}, 404, "model_not_found"),
    "top-k 0": ("/v1/classify?top_k=0", {"content": b"x"}, 422, "invalid_request"),
    "top-k a million": ("/v1/classify?top_k=1000000", {"content": b"x"}, 422, "invalid_request"),
    "top-k a word": ("/v1/classify?top_k=many", {"content": b"x"}, 422, "invalid_request"),
    "kind": ("/v1/embed?kind=best", {"content": b"x"}, 422, "unknown_kind"),
    "layer": ("/v1/embed?kind=layer:99", {"content": b"x"}, 422, "unknown_kind"),
    "format": ("/v1/embed?format=xml", {"content": b"x"}, 422, "invalid_request"),
    "JSON": ("/v1/classify", {"content": b'{"images": [', "headers": JSON}, 400, "invalid_json"),
    "JSON of another form": ("/v1/classify", {"content": b"[1]", "headers": JSON}, 422, "invalid_request"),
    "JSON without images": ("/v1/classify", {"json": {"images": []}}, 422, "invalid_request"),
    "JSON, not UTF-8": ("/v1/classify", {"content": b'{"images": ["\xff"]}', "headers": JSON}, 400, "invalid_json"),
    "base64": ("/v1/classify", {"json": {"images": ["?"]}}, 400, "invalid_base64"),
    "a URL": ("/v1/classify", {"json": {"images": ["http://127.0.0.1/"]}}, 400, "url_not_allowed"),
    "a file": ("/v1/classify", {"json": {"images": ["file:///etc/passwd"]}}, 400, "invalid_base64"),
    "too many": ("/v1/classify", {"json": {"images": ["aGk="] * 65}}, 413, "too_many_images"),
    "too many files": ("/v1/classify", {"files": [("images", b"x")] * 65}, 413, "too_many_images"),
    "a form without files": ("/v1/classify", {"data": {"a": "b"}, "files": {}}, 415, "unsupported_media_type"),
    "a damaged form": (
        "/v1/classify",
        {"content": b"--x", "headers": {"content-type": "multipart/form-data"}},
        400,
        "invalid_form",
    ),
    "a large part without a file": (
        "/v1/classify",
        {"files": {"images": (None, bytes(2**20 + 1))}},
        413,
        "part_too_large",
    ),
    "a deadline": ("/v1/classify", {"content": b"x", "headers": {"x-request-timeout": "soon"}}, 400, "invalid_timeout"),
    "no time": ("/v1/classify", {"content": b"x", "headers": {"x-request-timeout": "0.0"}}, 408, "too_slow"),
    "a content type": (
        "/v1/classify",
        {"content": b"x", "headers": {"content-type": "text/html"}},
        415,
        "unsupported_media_type",
    ),
    "no such path": ("/v1/nothing", {"content": b"x"}, 404, "not_found"),
    "another method": ("/healthz", {"content": b"x"}, 405, "method_not_allowed"),
    "no index": ("/v1/search", {"content": b"x"}, 404, "no_index"),
    "embeddings": ("/v1/embeddings", {"json": {"model": NANO}}, 422, "invalid_request"),
    "embeddings of text": ("/v1/embeddings", {"json": {"model": NANO, "input": "a cat"}}, 400, "invalid_base64"),
    "embeddings, JSON": ("/v1/embeddings", {"content": b'{"model": ', "headers": JSON}, 400, "invalid_json"),
    "embeddings, deep": (
        "/v1/embeddings",
        {"content": b"[" * 100_000, "headers": JSON},
        400,
        "invalid_json",
    ),
    "embeddings, a number of 9,000 digits": (
        "/v1/embeddings",
        {"content": b"9" * 9_000, "headers": JSON},
        400,
        "invalid_json",
    ),
    "embeddings, empty": ("/v1/embeddings", {"json": {"model": NANO, "input": []}}, 400, "no_image"),
    "tensors": (f"/v2/models/{NANO}/infer", {"content": b"{"}, 400, "invalid_json"),
    "tensors of another form": (f"/v2/models/{NANO}/infer", {"json": {"inputs": []}}, 422, "invalid_request"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_refused_with_a_code_and_a_sentence(client: httpx.Client, name: str) -> None:
    path, request, status, code = BAD[name]
    answer = client.post(path, **request)
    assert answer.status_code == status, answer.text
    told = answer.json()
    told = told if path.startswith("/v2") else told["error"]
    assert told["code"] == code
    sentence = told["error"] if path.startswith("/v2") else told["message"]
    assert len(sentence.split()) >= 3
    assert "/home" not in answer.text
    assert "Traceback" not in answer.text
    assert "passwd" not in answer.text
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("kind", ["best", "layer:99"])
def test_a_kind_is_refused_as_at_the_command_line(
    client: httpx.Client, cat: bytes, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cat.png").write_bytes(cat)
    assert main(["embed", str(tmp_path / "cat.png"), "--model", NANO, "--kind", kind]) == 2
    told = client.post(f"/v1/embed?kind={kind}", content=cat).json()["error"]["message"]
    assert capsys.readouterr().err == f"convit: error: {told}\n"


@pytest.mark.parametrize(
    ("given", "header", "code"),
    [
        ({"shape": [2], "datatype": "BYTES", "data": ["aGk="]}, None, "wrong_shape"),
        ({"shape": [1], "datatype": "FP32", "data": ["1"]}, None, "unknown_input"),
        ({"shape": [1], "datatype": "BYTES", "data": ["?"]}, None, "invalid_base64"),
        ({"shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 99}}, None, "invalid_tensor"),
        ({"shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": "all"}}, None, "invalid_tensor"),
        ({"shape": [1], "datatype": "BYTES", "data": ["aGk="]}, "3", "invalid_json"),
    ],
)
def test_bad_tensors(client: httpx.Client, given: dict[str, Any], header: str | None, code: str) -> None:
    headers = {} if header is None else {"Inference-Header-Content-Length": header}
    body = json.dumps({"inputs": [{"name": "images", **given}]}).encode()
    answer = client.post(f"/v2/models/{NANO}/infer", content=body, headers=headers)
    assert answer.json()["code"] == code
    assert 400 <= answer.status_code < 500


def test_200_megabytes_are_refused_before_they_are_sent(running: Running) -> None:
    head = b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 209715200\r\n\r\n"
    assert _say(running, head).startswith(b"HTTP/1.1 413")


def test_a_body_without_a_length_is_refused_when_it_is_too_long(guarded: Running) -> None:
    head = f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    answer = _say(guarded, head.encode() + 17 * chunk)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"code":"body_too_large"' in answer


def _say(running: Running, text: bytes, *, wait: float = 20) -> bytes:
    host, _, port = running.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(text)
        return b"".join(iter(lambda: connection.recv(2**16), b""))


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "127.0.0.1.evil.example"])
def test_other_host_names_are_not_answered(client: httpx.Client, host: str) -> None:
    answer = client.get("/healthz", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (421, "unknown_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:80", "10.0.0.3"])
def test_addresses_and_localhost_are(client: httpx.Client, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "file://"])
def test_other_pages_may_not_call(client: httpx.Client, cat: bytes, origin: str) -> None:
    answer = client.post("/v1/classify", content=cat, headers={"origin": origin})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "cross_origin")
    asked = client.options("/v1/classify", headers={"origin": origin, "access-control-request-method": "POST"})
    assert "access-control-allow-origin" not in asked.headers


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service with a key, an origin, a host, a queue of two, and two seconds of patience."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "keys").write_text(f"# mine\n\n{KEY}\n")
    names = ("--allow-origin", "https://good.example", "--allow-host", "service.example", "--root-path", "/images")
    limits = ("--queue", "2", "--timeout", "2", "--max-body", "1")
    with serving(folder, "--model", NANO, "--api-key-file", "keys", *names, *limits) as service:
        yield service._replace(url=service.url.removesuffix("/images"))


def test_keys(guarded: Running, cat: bytes) -> None:
    with guarded.client() as client:
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": f"Basic {KEY}"},
            {"x-api-key": KEY[:-1]},
        ):
            answer = client.post("/v1/classify", content=cat, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_key")
            assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}):
            assert client.post("/v1/classify", content=cat, headers=headers).status_code == 200
        assert client.get("/metrics").status_code == client.get("/v2/models/x").status_code == 401
        for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/v2/health/ready"):
            assert client.get(path).status_code == 200
    assert KEY not in guarded.log.read_text()


def test_a_page_that_is_allowed_may_call(guarded: Running, cat: bytes) -> None:
    origin = {"origin": "https://good.example"}
    with guarded.client() as client:
        asked = client.options("/v1/classify", headers={**origin, "access-control-request-method": "POST"})
        assert asked.status_code == 204
        answer = client.post("/v1/classify", content=cat, headers={**origin, "x-api-key": KEY})
        assert answer.status_code == 200
        for each in (asked, answer):
            assert each.headers["access-control-allow-origin"] == "https://good.example"
            assert "retry-after" in each.headers["access-control-expose-headers"]
        own = client.get("/healthz", headers={"host": "service.example", "origin": "https://service.example"})
        assert own.status_code == 200


def test_behind_a_proxy_with_a_path_of_its_own(guarded: Running) -> None:
    with guarded.client() as client:
        for path in ("/healthz", "/images/healthz"):
            assert client.get(path).status_code == 200
        assert client.get("/images/openapi.json").json()["servers"] == [{"url": "/images"}]
        assert client.get("/images/v1/models").status_code == 401


def test_a_full_queue_says_when_to_come_again(guarded: Running, cat: bytes) -> None:
    with guarded.client(headers={"x-api-key": KEY}) as client, ThreadPoolExecutor(16) as pool:
        ask = partial(client.post, "/v1/classify", files=[("images", cat)] * 2)
        answers = [each.result() for each in [pool.submit(ask) for _ in range(32)]]
        refused = [each for each in answers if each.status_code == 503]
        assert {each.status_code for each in answers} == {200, 503}
        assert {each.json()["error"]["code"] for each in refused} == {"queue_full"}
        assert all(int(each.headers["retry-after"]) >= 1 for each in refused)
        assert f'convit_refusals_total{{reason="queue_full"}} {len(refused)}.0' in client.get("/metrics").text


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/embeddings", f"/v2/models/{NANO}/infer"])
def test_more_images_than_the_queue_ever_takes_are_too_many(guarded: Running, cat: bytes, path: str) -> None:
    texts = [base64.b64encode(cat).decode()] * 3
    tensor = {"name": "images", "datatype": "BYTES", "shape": [3], "data": texts}
    given: dict[str, Any] = {
        "/v1/classify": {"files": [("images", cat)] * 3},
        "/v1/embeddings": {"json": {"model": NANO, "input": texts}},
    }.get(path, {"json": {"inputs": [tensor]}})
    with guarded.client(headers={"x-api-key": KEY}) as client:
        answer = client.post(path, **given)
    assert answer.status_code == 413
    assert "there are more than 2 images; send them in several requests" in answer.text


def test_a_client_may_want_its_answer_sooner(client: httpx.Client, cat: bytes) -> None:
    images = [("images", cat)] * 64
    answer = client.post("/v1/classify", files=images, headers={"x-request-timeout": "0.06"})
    assert answer.json()["error"]["code"] in ("deadline_exceeded", "too_slow")
    assert answer.elapsed.total_seconds() < 10
    assert client.post("/v1/classify", content=cat, headers={"x-request-timeout": "60"}).status_code == 200


@pytest.mark.parametrize(
    "start",
    [
        b"POST /v1/classify HTTP/1.1\r\nHost: localho",
        f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\nContent-Length: 99\r\n\r\nhalf".encode(),
        b"",
    ],
    ids=["head", "body", "nothing"],
)
def test_a_slow_sender_is_told_and_left(guarded: Running, start: bytes) -> None:
    began = time.monotonic()
    answer = _say(guarded, start)
    assert time.monotonic() - began < 10
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code":"too_slow"' in answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.lower()


def test_half_a_request_leaves_no_worker_stuck(running: Running, cat: bytes) -> None:
    host, _, port = running.url.removeprefix("http://").partition(":")
    for size in (20, 4000):
        for _ in range(20):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(
                    b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 34306\r\n\r\n"[:size]
                )
                connection.sendall(cat[:100])
    with running.client() as client:
        assert client.post("/v1/classify", content=cat).status_code == 200
        assert "convit_requests_in_flight 1.0" in _settled(client)


def _settled(client: httpx.Client) -> str:
    for _ in range(100):
        text = client.get("/metrics").text
        if "convit_requests_in_flight 1.0" in text:
            break
        time.sleep(0.05)
    return text


def test_images_of_a_client_that_left_are_dropped(running: Running, cat: bytes) -> None:
    def leave() -> None:
        host, _, port = running.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(cat)}\r\n\r\n"
            connection.sendall(head.encode() + cat)

    threads = [threading.Thread(target=leave) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with running.client() as client:
        assert client.post("/v1/classify", content=cat).status_code == 200
        text = _settled(client)
    assert 'convit_refusals_total{reason="client_left"}' in text


def test_the_log_is_json_and_holds_no_image(client: httpx.Client, running: Running, cat: bytes) -> None:
    answer = client.post("/v1/classify?secret=1", content=cat, headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    lines = [line for line in running.log.read_text().splitlines() if not line.startswith("convit: ")]
    (mine,) = [entry for entry in map(json.loads, lines) if entry.get("request_id") == "mine-1"]
    assert (mine["route"], mine["status"], mine["body_bytes"]) == ("/v1/classify", 200, len(cat))
    assert "secret" not in str(mine)
    for bad in ("a b", "x" * 65, '"'):
        assert client.get("/healthz", headers={"x-request-id": bad}).headers["x-request-id"] != bad


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--model", "no_such"], "no_such"),
        (["--api-key-file", "none"], "none"),
        (["--allow-origin", "example.org"], "is not scheme and host"),
        (["--root-path", "x/"], "must begin with /"),
        (["--index", "none.db"], "none.db"),
        (["--host", "192.0.2.1"], "choose another with --host and --port"),
    ],
)
def test_what_is_wrong_at_the_start_is_one_line(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [] if "--model" in options else ["--model", NANO]
    assert main(["serve", "--port", "0", *model, *options]) in (1, 2)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("convit: error: ")
    assert told in error


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_a_service_for_everybody_is_warned_of(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", host, "--port", "0", "--model", "no_such"]) == 2
    warned = "warning: anyone who can reach 0.0.0.0 can use this service; set --api-key-file" in capsys.readouterr().err
    assert warned == (host == "0.0.0.0")


@pytest.mark.parametrize("seconds", [0.5, math.inf, math.nan])
def test_a_service_has_a_finite_timeout(seconds: float) -> None:
    with pytest.raises(ValueError, match=f"seconds is {seconds}, but must be at least 1, and finite"):
        ServiceOptions(seconds=seconds)
