"""Images on their way through a model: in order, in batches, and all of them to the end."""

import asyncio
import gc
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from convit.inference.predicting import Row
from convit.serving.batching import Batcher, SentImage
from convit.serving.errors import ServiceError
from convit.serving.metrics import Metrics


class _Predictor:
    """Notes what it computes; the first image waits until it may go on."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.batches: list[list[str]] = []
        self.is_busy, self.may_go_on = threading.Event(), threading.Event()

    def _read(self, item: tuple[None, bytes], name: str) -> Row:
        self.read.append(name)
        if item[1] == b"broken":
            raise RuntimeError("unexpected")
        return Row(None, name)

    def _compute(self, rows: Sequence[Row]) -> None:
        self.is_busy.set()
        self.may_go_on.wait(10)
        self.batches.append([row.name for row in rows])


@pytest.fixture(params=[0, 1, 3], ids=["no decoder", "one decoder", "three decoders"])
def decoders(request: pytest.FixtureRequest) -> Any:
    if not request.param:
        yield None
        return
    with ThreadPoolExecutor(request.param) as pool:
        yield pool


async def _compute(decoders: Executor | None, one: _Predictor, other: _Predictor) -> list[Any]:
    batcher = Batcher("small", 4, 20, decoders, Metrics())
    batcher.start()

    def submit(predictor: Any, *names: str) -> list[asyncio.Future[Row]]:
        return batcher.submit(predictor, [SentImage(name, b"broken" if name == "b" else b"fine") for name in names])

    answers = submit(one, "first")
    await asyncio.to_thread(one.is_busy.wait, 10)
    left = submit(one, "left")
    answers += submit(one, "1", "2", "b") + submit(other, "x") + submit(one, "3", "4", "5")
    left[0].cancel()
    with pytest.raises(ServiceError, match="too many images are waiting"):
        submit(one, *map(str, range(20)))
    await asyncio.sleep(0.05)
    one.may_go_on.set()
    other.may_go_on.set()
    if decoders is not None:
        decoders.shutdown()
    await asyncio.to_thread(batcher.close)
    found = await asyncio.gather(*answers, return_exceptions=True)
    assert batcher.waiting == 0
    return [getattr(each, "name", str(each)) for each in found]


def test_every_image_is_computed_once_in_full_batches(decoders: Executor | None) -> None:
    one, other = _Predictor(), _Predictor()
    assert asyncio.run(_compute(decoders, one, other)) == ["first", "1", "2", "unexpected", "x", "3", "4", "5"]
    assert one.batches[0] == ["first"]
    assert sorted(name for batch in one.batches for name in batch) == ["1", "2", "3", "4", "5", "first"]
    assert other.batches == [["x"]]
    assert max(map(len, one.batches)) >= 3
    if decoders is None:
        assert "left" not in one.read


def test_a_failure_of_several_images_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> None:
        batcher = Batcher("small", 4, 20, None, Metrics())
        batcher.start()
        predictor: Any = _Predictor()
        predictor.may_go_on.set()
        first, _ = batcher.submit(predictor, [SentImage("b", b"broken")] * 2)
        with pytest.raises(RuntimeError, match="unexpected"):
            await first
        await asyncio.to_thread(batcher.close)

    asyncio.run(ask())
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_files_of_requests_that_are_given_up_are_not_kept() -> None:
    async def ask() -> list[SentImage]:
        batcher = Batcher("small", 4, 20, None, Metrics())  # not started: its model is busy, as it were
        predictor: Any = _Predictor()
        for answer in batcher.submit(predictor, [SentImage("given up", b"large")] * 2):
            answer.cancel()
        batcher.submit(predictor, [SentImage("waiting", b"large")])
        await asyncio.sleep(0)
        jobs = [batcher._came.get_nowait() for _ in range(3)]
        return [job.image for job in jobs if job is not None]

    assert asyncio.run(ask()) == [("given up", b""), ("given up", b""), ("waiting", b"large")]


def test_a_refusal_counts_the_time_to_decode_where_the_model_waits_for_it() -> None:
    class Slow(_Predictor):
        def _read(self, item: tuple[None, bytes], name: str) -> Row:
            time.sleep(0.2)
            return super()._read(item, name)

    async def ask() -> str:
        batcher = Batcher("small", 4, 20, None, Metrics())
        batcher.start()
        predictor: Any = Slow()
        predictor.may_go_on.set()
        await batcher.submit(predictor, [SentImage("1", b"")])[0]
        await asyncio.to_thread(batcher.close)
        batcher.waiting, batcher.capacity = 1000, 1000
        with pytest.raises(ServiceError) as refused:
            batcher.submit(predictor, [SentImage("2", b"")])
        return (refused.value.headers or {})["Retry-After"]

    assert 25 <= int(asyncio.run(ask())) <= 60  # 1,000 images of 0.01 s + 0.1 * (0.2 s - 0.01 s)
