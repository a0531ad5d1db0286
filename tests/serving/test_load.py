"""Under load: batches form, bad requests among good ones change nothing, and memory stays as it is."""

import base64
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from benchmarks import serving as benchmark
from tests.serving.conftest import NANO, Running


def _send(running: Running, image: bytes, requests: int, clients: int = 8) -> list[int]:
    """Send as many requests, one in four of them bad; gives how many were answered with 200, and with 400."""

    def send(number: int) -> list[int]:
        with running.client() as client:
            bodies = (
                benchmark.BAD[place % 3] if place % 4 == 3 else image for place in range(number, requests, clients)
            )
            return [client.post("/v1/classify?top_k=1", content=body).status_code for body in bodies]

    with ThreadPoolExecutor(clients) as pool:
        found = [status for statuses in pool.map(send, range(clients)) for status in statuses]
    assert set(found) == {200, 400}
    return [found.count(200), found.count(400)]


def _batches(client: httpx.Client) -> tuple[float, float]:
    lines = client.get("/metrics").text.splitlines()
    return tuple(  # type: ignore[return-value]
        sum(float(line.split()[-1]) for line in lines if line.startswith(f"convit_batch_images_{name}"))
        for name in ("sum", "count")
    )


def _check_memory(running: Running, image: bytes, requests: int, growth: float) -> None:
    process = psutil.Process(running.process.pid)
    _send(running, image, requests)
    first = process.memory_info().rss
    for _ in range(3):
        _send(running, image, requests)
    assert process.memory_info().rss - first < growth * 2**20
    assert process.num_threads() < 40


def test_images_of_several_clients_share_a_batch(running: Running, client: httpx.Client, cat: bytes) -> None:
    images, batches = _batches(client)
    assert _send(running, cat, 128) == [96, 32]
    more_images, more_batches = _batches(client)
    assert more_images - images >= 96
    assert more_images - images > 1.2 * (more_batches - batches)


def test_an_output_that_is_named_often_is_computed_once(client: httpx.Client, cat: bytes) -> None:
    images, _ = _batches(client)
    given = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(cat).decode()]}
    body = {"inputs": [given], "outputs": [{"name": "probabilities"}] * 8}
    answer = client.post(f"/v2/models/{NANO}/infer", json=body).json()
    assert [each["name"] for each in answer["outputs"]] == ["probabilities"] * 8
    assert _batches(client)[0] == images + 1


def test_memory_stays(running: Running, cat: bytes) -> None:
    _check_memory(running, cat, 300, growth=30)


@pytest.mark.soak
def test_memory_stays_over_100_000_requests(running: Running, cat: bytes) -> None:
    _check_memory(running, cat, 25_000, growth=30)


def test_the_benchmark_measures_what_it_says(running: Running) -> None:
    port = int(running.url.rpartition(":")[2])
    found = benchmark.load(port, 4, 0.5)
    assert found.seconds
    assert found.at(0.5) <= found.at(0.99)
    assert len(benchmark.load(port, 2, 1, rate=20).seconds) == 20
    memory = benchmark.measure_memory(port, running.process.pid, 4)
    assert memory["first_mib"] > 50
