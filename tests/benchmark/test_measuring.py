"""What is measured: every mode once from end to end, and what happens where something does not fit or is not equal."""

import dataclasses
import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from convit.benchmark import explain, measure, memory, throughput, timing, training
from convit.benchmark.building import Entry, build_entry
from convit.benchmark.cases import Case
from convit.benchmark.comparing import compare_outputs, largest_fitting
from convit.benchmark.rows import _notes, share_of_peak, with_ratios
from convit.optimization.precision import is_emulated
from convit.output.text import is_out_of_memory
from tests.benchmark.small import COST, made_row, small_case

CPU = torch.device("cpu")
ENTRY = Entry(small_case().candidates()[0], torch.nn.Identity(), torch.float32, "fp32", "torch", COST)


@pytest.fixture(autouse=True)
def _small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_SHAPES", {"cpu": ((64, 64, 64), (32, 64, 128))})
    timing.measure_peak.cache_clear()


def test_images_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convit.benchmark.rows.measure_peak", lambda *_: 1e15)
    rows = measure(small_case(against=("eager@bf16", "plain", "timm:vit_tiny_patch16_224"), batch=3))
    assert [row.candidate for row in rows] == ["ours", "eager@bf16", "plain", "timm:vit_tiny_patch16_224"]
    assert [row.relation for row in rows] == ["ours", "equal", "equal", "another"]
    for row in rows:
        assert row.images_per_second == pytest.approx(1000 * 3 / row.step_ms["median"], rel=1e-3)
        assert row.ratio == pytest.approx(rows[0].images_per_second / row.images_per_second, abs=6e-4)  # 3 digits
        assert (row.batch, row.rounds, row.height, row.width) == (3, 2, 32, 32)
        assert (row.peak_share is None) == is_emulated(row.computed_in, torch.device("cpu"))
    differences = [row.difference for row in rows]
    assert differences[3] is None
    assert all(difference is not None for difference in differences[:3])
    assert rows[1].precision == "bf16"


def test_latency_has_percentiles() -> None:
    ours, _ = measure(small_case(mode="latency", batch=None, rounds=5))
    assert ours.percentiles_ms is not None
    assert ours.percentiles_ms["p50"] == ours.step_ms["median"]
    assert ours.percentiles_ms["p50"] <= ours.percentiles_ms["p90"] <= ours.percentiles_ms["p99"]
    assert ours.batch == 1


def test_training_steps() -> None:
    rows = measure(small_case(mode="train", against=("plain", "timm:vit_tiny_patch16_224"), precision="bf16"))
    assert [row.relation for row in rows] == ["ours", "equal", "another"]
    assert all(row.difference is not None and row.difference < 0.05 for row in rows[:2])
    assert all(row.ratio is not None and row.ratio > 0 for row in rows)
    assert rows[1].computed_in == "bf16"


def test_a_training_step_trains() -> None:
    case = small_case(mode="train", batch=4)
    reference = training.build_reference(case)
    entry = training._build(case, case.candidates()[0], reference)
    step, images = training.make_step(entry, case), training.make_images(case, reference)
    before = reference.blocks[0].mlp.fc1.weight
    losses = [step(images) for _ in range(4)]
    assert losses[-1] < losses[0]
    after: Any = entry.module.get_parameter("blocks.0.mlp.fc1.weight")
    assert not torch.equal(before, after)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_and_time_of_a_fresh_process() -> None:
    case = small_case(mode="memory", against=("plain",), batch=None, rounds=1, size=(96, 128), threads=1)
    (ours,) = measure(dataclasses.replace(case, against=()))
    assert (ours.candidate, ours.batch, ours.cost.tokens, ours.height, ours.width) == ("ours", 1, 768, 96, 128)
    assert ours.held_mb is not None
    assert ours.held_mb > 50
    assert ours.difference is not None
    assert ours.kept_mb is not None
    assert ours.memory_mb is not None
    assert 0 <= ours.kept_mb <= ours.memory_mb
    assert ours.memory_range_mb == (ours.memory_mb, ours.memory_mb)
    # the plain twin builds matrices of 768 x 768 for each of nine heads; here it is measured in this process
    plain = memory.measure_here(case, case.candidates()[1], compares=False)
    assert plain["difference"] is None
    assert plain["peak"] / 1e6 > max(9 * 768**2 * 4 / 1e6, ours.memory_mb)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_high_water_mark_is_seen_and_set_back() -> None:
    program = (
        "from pathlib import Path\n"
        "from convit.benchmark.memory import read_memory\n"
        "early = bytearray(200_000_000); del early\n"
        "held = read_memory('VmRSS'); Path('/proc/self/clear_refs').write_text('5')\n"
        "late = bytearray(b'x') * 64_000_000; del late\n"
        "print(read_memory('VmHWM') - held)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert 60e6 < int(run.stdout) < 80e6
    with pytest.raises(ValueError, match="has no VmNothing"):
        memory.read_memory("VmNothing")


def _child(said: object = None, code: int = 0, words: bytes = b"") -> Callable[..., Any]:
    out = b"" if said is None else b"a library's own line\n" + pickle.dumps(said).hex().encode()
    return lambda *_, **__: subprocess.CompletedProcess([], code, out, words)


@pytest.mark.parametrize(
    ("child", "error", "words"),
    [
        (_child(ValueError("refused: other outputs")), ValueError, "^refused: other outputs$"),
        (_child(RuntimeError("broken")), RuntimeError, "^broken$"),
        (_child(code=1, words=b"Traceback\nKeyError: 5\n"), RuntimeError, "ours: KeyError: 5"),
        (_child(code=-9), MemoryError, "ours does not fit in memory"),
    ],
)
def test_a_process_that_fails_says_why(
    child: Callable[..., Any], error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory.subprocess, "run", child)
    case = small_case(mode="memory")
    with pytest.raises(error, match=words):
        memory.run_process(case, case.candidates()[0], compares=True)


def test_another_candidate_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.subprocess, "run", _child(MemoryError()))
    case = small_case(mode="memory")
    assert memory.run_process(case, case.candidates()[1], compares=False) is None


class _Wrong(torch.nn.Module):
    """A model with something wrong with its outputs or its size."""

    def __init__(self, module: torch.nn.Module, factor: float = 1.0, most: int = 1000) -> None:
        super().__init__()
        self.module, self.factor, self.most = module, factor, most

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.factor * self.module(images)


def _spoiled(spoil: str, **wrong: Any) -> Callable[..., Entry]:
    def build(case: Case, candidate: Any, reference: Any) -> Entry:
        entry = build_entry(case, candidate, reference)
        if candidate.name != spoil:
            return entry
        return dataclasses.replace(entry, module=_Wrong(entry.module, **wrong))

    return build


@pytest.mark.parametrize("factor", [-1.0, float("nan"), 1.01])
def test_other_outputs_are_refused_before_anything_is_timed(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "build_entry", _spoiled("eager", factor=factor))
    monkeypatch.setattr(throughput, "alternate", lambda *_, **__: pytest.fail("something was timed"))
    with pytest.raises(ValueError, match=r"refused: eager gives other outputs .* allowed are 0.0001 in fp32"):
        measure(small_case())


def test_other_losses_are_refused() -> None:
    case = small_case(mode="train")
    entries = [training._build(case, each, training.build_reference(case)) for each in case.candidates()]
    losses = {"ours": 2.0, "eager": 2.0001}
    assert training.compare_losses(entries, losses, {"ours": 2.0, "eager": 2.0}) == {"ours": 0.0, "eager": 5e-05}
    with pytest.raises(ValueError, match="refused: the first loss of eager differs"):
        training.compare_losses(entries, losses | {"eager": 2.1}, {"ours": 2.0, "eager": 2.0})


def test_a_batch_that_does_not_fit_is_halved_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(throughput, "build_entry", _spoiled("eager", most=2))
    with caplog.at_level(logging.WARNING):
        ours, eager = measure(small_case(batch=8))
    assert (ours.batch, eager.batch, eager.batch_asked) == (8, 2, 8)
    assert caplog.messages == ["a batch of 8 does not fit in memory for eager; halved to 2"]
    # images per second stay comparable
    assert eager.images_per_second == pytest.approx(1000 * 2 / eager.step_ms["median"], rel=1e-3)
    assert eager.ratio == pytest.approx(ours.images_per_second / eager.images_per_second, rel=1e-3)
    monkeypatch.setattr(throughput, "build_entry", _spoiled("ours", most=2))
    assert explain(small_case(batch=8)).case.endswith("32 x 32, batch 2")


def test_who_has_no_room_at_all_is_left_out_but_not_ours(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(throughput, "build_entry", _spoiled("eager", most=0))
    with caplog.at_level(logging.WARNING):
        rows = measure(small_case())
    assert [row.candidate for row in rows] == ["ours"]
    assert caplog.messages == ["eager is left out: it does not fit in memory with a single image"]
    monkeypatch.setattr(throughput, "build_entry", _spoiled("ours", most=0))
    with pytest.raises(MemoryError, match="ours does not fit in memory with a single image"):
        measure(small_case())


def test_who_cannot_train_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    really = training._build

    def build(case: Case, candidate: Any, reference: Any) -> Entry:
        entry, most = really(case, candidate, reference), {"eager": 0, "plain": 1}.get(candidate.name, 1000)
        return dataclasses.replace(entry, module=_Wrong(entry.module, most=most))

    monkeypatch.setattr(training, "_build", build)
    rows = measure(small_case(mode="train", against=("eager", "plain")))
    assert [(row.candidate, row.batch) for row in rows] == [("ours", 2), ("plain", 1)]


def test_what_out_of_memory_looks_like() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(10**15)
    assert is_out_of_memory(raised.value)
    assert is_out_of_memory(torch.OutOfMemoryError("x"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))

    def broken(_: torch.Tensor) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        largest_fitting(broken, torch.zeros(4))


def test_nobody_has_nothing_to_compare() -> None:
    assert compare_outputs(training.build_reference(small_case()), []) == {}


def test_ratios_are_those_of_images_per_second() -> None:
    rows = [
        made_row(images_per_second=30.0),
        made_row(candidate="timm:convit_base", relation="equal", images_per_second=20.0, batch=4),
        made_row(candidate="timm:deit", relation="another", images_per_second=60.0),
    ]
    assert [row.ratio for row in with_ratios(rows)] == [1.0, 1.5, 0.5]
    assert [row.ratio for row in with_ratios(rows[1:])] == [None, None]


def test_the_share_counts_executed_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convit.benchmark.rows.measure_peak", lambda *_: 1e12)
    # 16.3 GMACs are 32.6 operations: ten images a second of a peak of 10^12
    assert share_of_peak(ENTRY, 10.0, CPU) == pytest.approx(0.326)
    assert share_of_peak(ENTRY, 10.0, CPU, passes=3) == pytest.approx(0.978)
    assert share_of_peak(ENTRY, 31.0, CPU) is None  # above 1
    uncounted = dataclasses.replace(ENTRY, cost=dataclasses.replace(COST, executed=None))
    assert share_of_peak(uncounted, 10.0, CPU) is None


@pytest.mark.parametrize("has_it", [True, False])
def test_a_share_is_of_the_peak_of_what_runs(has_it: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    monkeypatch.setattr("convit.benchmark.rows.measure_peak", lambda *given: measured.append(given[1]) or 1e15)
    monkeypatch.setattr("convit.optimization.precision.onednn_has", lambda _: has_it)
    shown = {
        (name, backend): share_of_peak(dataclasses.replace(ENTRY, computed_in=name, backend=backend), 10.0, CPU)
        for name in ("fp32", "bf16", "fp16", "int8")
        for backend in ("torch", "compiled", "cuda graph", "openvino", "onnx")
    }
    found = {key for key, share in shown.items() if share is not None}
    names = ("fp32", "bf16", "fp16", "int8") if has_it else ("fp32", "int8")
    assert found == {(name, backend) for name in names for backend in ("torch", "compiled", "cuda graph")}
    assert set(measured) == set(names)  # what is emulated would take minutes
    assert ("instructions for bf16" in _notes(made_row(computed_in="bf16"))) is not has_it
    assert "instructions" not in _notes(made_row(computed_in="bf16", device="cuda")) + _notes(made_row())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8"])
def test_the_peak_is_the_best_of_the_shapes(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert timing.measure_peak(CPU, precision, torch.get_num_threads()) > 1e6
    times = iter([{"product": [0.5, 0.25]}, {"product": [1.0, 2.0]}])
    monkeypatch.setattr(timing, "alternate", lambda *_, **__: next(times))
    assert timing.measure_peak(CPU, precision, 0) == 4 * 2 * 64**3
    product = timing.make_product(CPU, precision, (17, 32, 8))()
    assert product.shape == (17, 8)
    assert product.float().abs().sum() > 0


def test_calls_alternate_after_a_warm_up() -> None:
    called: list[str] = []
    seconds = timing.alternate({name: lambda n=name: called.append(n) for name in "ab"}, rounds=3, warm_ups=2)
    assert "".join(called) == "ab" * 2 + "ab" * 3
    assert [len(values) for values in seconds.values()] == [3, 3]
    assert timing.summarize([0.001])["low"] == 1.0
    assert timing.percentiles([0.002]) == {"p50": 2.0, "p90": 2.0, "p99": 2.0}


def test_compiled_candidates_are_compiled_for_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[bool] = []

    def compile_nothing(module: torch.nn.Module, *, dynamic: bool) -> torch.nn.Module:
        compiled.append(dynamic)
        return module

    monkeypatch.setattr(torch, "compile", compile_nothing)
    rows = measure(small_case(against=("eager+compile", "plain")))
    assert [(row.candidate, row.backend) for row in rows[1:]] == [("eager+compile", "compiled"), ("plain", "torch")]
    assert compiled == [False]
    assert [row.compiled for row in rows[1:]] == [True, False]
    assert [row.compiled for row in measure(small_case(mode="train", compiled=True))] == [True, False]


def test_compiling_that_is_passed_over_is_not_told_as_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convit.optimization.plan.is_amd_avx512", lambda: True)
    rows = measure(small_case(compiled=True, precision="fp32"))
    assert (rows[0].candidate, rows[0].backend, rows[0].compiled) == ("ours", "torch", False)
