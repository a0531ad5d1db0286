"""A pool of actors does every task once, whatever dies meanwhile; with a stand-in for Ray."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from convit.data import open_samples
from convit.evaluation import Evaluator
from convit.inference.options import RunOptions
from convit.scale import (
    Destination,
    Done,
    Job,
    LocalEngine,
    RayEngine,
    list_inputs,
    missing,
    prepare,
    ray_evaluation,
)
from convit.scale.ray_cluster import PoolActor, share_out
from convit.scale.ray_evaluation import RayProcesses

NANO = "convit_nano_patch4_32.cifar10"


class _RayError(Exception):
    pass


class _RayTaskError(_RayError):
    pass


class _Played:
    """What `share_out` uses of Ray; `fate` says of each call, by its number, what becomes of the actor."""

    exceptions = SimpleNamespace(RayError=_RayError, RayTaskError=_RayTaskError)

    def __init__(self, fate: Callable[[int, str], str], cores: int = 2) -> None:
        self.cluster_resources = lambda: {"CPU": cores}
        self.fate, self.calls = fate, 0

    def remote(self, **resources: Any) -> Callable[[type[PoolActor]], Any]:
        assert resources == {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0}
        return lambda actor: SimpleNamespace(remote=lambda *given: self._handle(actor(*given)))

    def _handle(self, actor: PoolActor) -> Any:
        return SimpleNamespace(
            **{name: SimpleNamespace(remote=self._call(name, getattr(actor, name))) for name in ("ready", "do")}
        )

    def _call(self, name: str, really: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            self.calls += 1
            return (self.calls, self.fate(self.calls, name), lambda: really(*given))

        return call

    def wait(self, answers: list[Any]) -> tuple[list[Any], list[Any]]:
        there = [answer for answer in answers if answer[1] != "never"]
        assert there, "it waits for what never comes"
        return there[-1:], []

    def get(self, answer: Any) -> Any:
        _, fate, really = answer
        if fate == "dies":
            raise _RayError("The actor died.\npages of text")
        try:
            return really()
        except ValueError as error:
            raise _RayTaskError from error


def _double() -> Callable[[int], int]:
    return lambda task: 2 * task


@pytest.mark.parametrize("every", [3, 5, 1000])
def test_every_task_is_done_once(every: int) -> None:
    ray = _Played(lambda call, name: "dies" if call % every == 0 else "works")
    done = [found for _, found in share_out(ray, "cpu", _double, range(20))]
    assert sorted(done) == [2 * task for task in range(20)]


def test_an_actor_that_no_longer_fits_blocks_no_task() -> None:
    ray = _Played(lambda call, name: {3: "dies", 4: "never"}.get(call, "works"))
    assert sorted(found for _, found in share_out(ray, "cpu", _double, range(5))) == [0, 2, 4, 6, 8]


def test_deaths_without_an_end_are_reported() -> None:
    ray = _Played(lambda call, name: "dies" if name == "do" else "works")
    with pytest.raises(ConnectionError, match=r"^Ray's workers died 11 times in a row \(The actor died\.\); check"):
        list(share_out(ray, "cpu", _double, range(5)))


def test_an_error_of_a_task_is_raised() -> None:
    def refuse() -> Callable[[int], int]:
        raise ValueError("no model here")

    with pytest.raises(_RayTaskError) as caught:
        list(share_out(_Played(lambda call, name: "works"), "cpu", refuse, range(5)))
    assert str(caught.value.__cause__) == "no model here"


def test_there_are_no_more_actors_than_tasks_and_none_without() -> None:
    ray = _Played(lambda call, name: "works", cores=8)
    assert [number for number, _ in share_out(ray, "cpu", _double, range(1))] == [0]
    assert list(share_out(ray, "cpu", _double, [])) == []
    assert ray.calls == 2


def test_shards_are_done_once_though_a_worker_dies(tmp_path: Path) -> None:
    for number in range(5):
        Image.new("RGB", (32, 32), (50 * number, 99, 200)).save(tmp_path / f"{number}.png")
    job, source, destination = Job("embed", NANO), str(tmp_path), Destination(tmp_path / "out")
    manifest = prepare(destination, [source], lambda: list_inputs([source]), images_per_shard=2)
    engine: Any = RayEngine(job, _Played(lambda call, name: "dies" if call == 5 else "works"))
    assert engine.identity == LocalEngine(job).identity
    done = sum(engine.run(destination, manifest.shards, engine.identity), Done())
    assert (done.shards, done.images, done.unreadable) == (3, 5, 0)
    assert missing(destination, manifest.shards) == []


@pytest.mark.parametrize("calibrate", [False, True])
def test_an_evaluation_sums_up_what_the_pool_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calibrate: bool
) -> None:
    monkeypatch.setattr(ray_evaluation, "_BATCHES", 1)
    for number in range(5):
        folder = tmp_path / ("cat", "dog")[number % 2]
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32), (50 * number, 99, 200)).save(folder / f"{number}.png")
    (tmp_path / "dog" / "broken.png").write_bytes(b"no image")
    data, model = {"source": str(tmp_path)}, {"model": NANO, "options": RunOptions(workers=0, batch_size=2)}
    images, evaluator, seen = open_samples(**data), Evaluator(**model), []
    processes = RayProcesses(
        data=data,
        model=model,
        calibrate=calibrate,
        ray=_Played(lambda call, name: "dies" if call == 4 else "works"),
        batch_size=2,
        advance=lambda: seen.append(None),
    )
    found = evaluator.evaluate(images, processes=processes, calibrate=calibrate)
    expected = evaluator.evaluate(images, calibrate=calibrate)
    assert (found.count, len(found.errors), len(seen)) == (expected.count, 1, 6)
    assert found.loss == pytest.approx(expected.loss, abs=1e-6)
