"""What is told: tables, files and explanations."""

import io
import json
from pathlib import Path

import pytest
import torch

from convit.benchmark import (
    Case,
    explain,
    explaining,
    measure,
    print_explanation,
    print_rows,
    run_cases,
    start_report,
    throughput,
)
from convit.benchmark.explaining import Explanation, kind_of
from convit.benchmark.running import Report, machine_lines
from convit.model import content
from tests.benchmark.small import NANO, ROWS, made_row, small_case


def test_the_table_says_what_was_measured() -> None:
    out = io.StringIO()
    print_rows(ROWS, out)
    text = out.getvalue()
    assert "convit_base, 224 x 224, fp32, infer, batch 8 (5 rounds, weights drawn)" in text
    ours, timm, deit = (
        next(line for line in text.splitlines() if name in line) for name in ("ours  ", "timm:c", "deit")
    )
    assert ours.split() == ["ours", "800", "(790-812)", "10", "1.00", "x", "82", "%", "5.0e-07"]
    assert timm.split() == ["timm:convit_base", "800", "(790-812)", "5", "2.00", "x", "1.0e-06"]
    assert deit.split() == ["timm:deit_base_patch16_224+compile*", "800", "(790-812)", "8", "1.25", "x"]
    assert "timm:convit_base: batch 4, since 8 does not fit in memory" in text
    assert "timm:deit_base_patch16_224+compile: computed in fp32" in text
    assert "* another model: its speed may be compared, its outputs may not" in text


def test_what_runs_ours_is_noted() -> None:
    for backend, words in (("compiled", "ours: through torch.compile"), ("openvino", "ours: run by openvino")):
        out = io.StringIO()
        print_rows([made_row(backend=backend, compiled=backend == "compiled")], out)
        assert words in out.getvalue()


def test_the_table_of_memory_shows_how_cost_grows() -> None:
    out = io.StringIO()
    print_rows([made_row(mode="memory", memory_mb=98.2, memory_range_mb=(88.0, 101.4), kept_mb=21.0)], out)
    row = out.getvalue().splitlines()[-2].split()
    assert row[-6:] == ["98.2", "(88-101)", "21", "196", "16.3", "0.001"]


def test_latency_has_a_column_of_its_own() -> None:
    out = io.StringIO()
    print_rows([made_row(mode="latency", percentiles_ms={"p50": 5.0, "p90": 6.25, "p99": 101.4})], out)
    assert "5 / 6.25 / 101" in out.getvalue()


def test_a_run_is_written_and_kept(tmp_path: Path) -> None:
    report = start_report(small_case(threads=1))
    assert list(run_cases([small_case(threads=1)], report)) == [report.rows]
    assert report.write(tmp_path / "new") == tmp_path / "new" / "results.json"
    content = json.loads((tmp_path / "new" / "results.json").read_text())
    assert [row["candidate"] for row in content["rows"]] == ["ours", "eager"]
    assert content["machine"]["threads"] == 1
    assert content["rows"][0]["cost"]["tokens"] == 64
    with pytest.raises(FileExistsError, match=r"results.json: exists already"):
        report.write(tmp_path / "new")
    report.write(tmp_path / "new", overwrite=True)


def test_threads_are_those_of_the_case_and_afterward_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), []
    case = small_case(threads=before + 1)
    really = explaining.build_reference

    def seeing(case: Case) -> object:
        seen.append(torch.get_num_threads())
        return really(case)

    for module in (explaining, throughput):
        monkeypatch.setattr(module, "build_reference", seeing)
    report = start_report(case)
    measure(case)
    explain(case)
    assert seen == [before + 1] * 2
    assert (report.machine["threads"], torch.get_num_threads()) == (before + 1, before)


def test_the_machine_is_told_in_two_lines() -> None:
    first, second = machine_lines(start_report(small_case()).machine)
    assert "threads" in first
    assert "torch" in second
    assert "timm" in second


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::addmm", "products"),
        ("mkldnn::_linear_pointwise", "products"),
        ("nvjet_hsh_128x128_64x4_2x1_v_bz_coopA_TNT", "products"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32", "products"),
        ("void cutlass::device_kernel<...>", "products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("void pytorch_flash::flash_fwd_kernel<...>", "attention"),
        ("_gpsa_forward", "attention"),
        ("aten::bmm", "position attention"),
        ("aten::native_layer_norm", "norms"),
        ("void at::native::vectorized_layer_norm_kernel<...>", "norms"),
        ("aten::gelu", "activations"),
        ("aten::mkldnn_convolution", "patch embedding"),
        ("aten::add_", "residuals and copies"),
        ("void at::native::vectorized_elementwise_kernel<4, ...>", "residuals and copies"),
        ("Memcpy DtoD (Device -> Device)", "residuals and copies"),
        ("triton_poi_fused_add_mul_3", "compiled pointwise code"),
        ("Torch-Compiled Region: 0/0", "compiled pointwise code"),
        ("aten::transpose", "rest"),
        ("aten::empty", "rest"),
    ],
)
def test_kinds_of_work_are_told_by_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_an_explanation_says_what_was_chosen_and_where_time_goes() -> None:
    found = explain(small_case(batch=4))
    assert found.case == f"{NANO}, fp32, 32 x 32, batch 4"
    assert {name for name, _, _ in found.steps} >= {"precision", "products"}
    assert sum(found.shares.values()) == pytest.approx(1.0, abs=0.01)
    assert found.shares["products"] > 0.2
    assert {"attention", "position attention", "norms", "patch embedding"} <= set(found.shares)
    assert found.milliseconds > 0
    out = io.StringIO()
    print_explanation(found, out)
    assert "position attention" in out.getvalue()
    assert "torch.profiler" in out.getvalue()


@pytest.mark.parametrize("products", [True, False])
def test_content_attention_by_products_is_no_position_attention(
    products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = dict[str, float]()
    monkeypatch.setattr(content, "suits_products", lambda *_, **__: products)
    monkeypatch.setattr(explaining, "sum_kinds", lambda timed: kept.update(timed) or {"all": 1.0})
    explain(small_case(batch=4))
    assert ("content attention, aten::bmm" in kept) is products
    assert "aten::bmm" in kept  # of position attention
    assert kind_of("content attention, aten::bmm") == "attention"


def test_a_runtimes_own_counters_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from convit.benchmark.building import build_entry as really

    class Counting(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images

        def layer_times(self, images: torch.Tensor) -> dict[str, float]:
            return {"FullyConnected": 0.003, "Reorder": 0.001, "Slice": 1e-6}

    monkeypatch.setattr(
        "convit.benchmark.throughput.build_entry",
        lambda *given: dataclasses.replace(really(*given), module=Counting(), backend="openvino"),
    )
    found = explain(small_case())
    assert found.shares == {"FullyConnected": 0.7498, "Reorder": 0.2499, "rest": 0.0002}
    assert (found.milliseconds, found.measured_by) == (4.001, "openvino")


def test_what_was_measured_is_there_whatever_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    report, first = Report({}), measure(small_case())
    results = iter([first])

    def interrupted(_: object) -> object:
        try:
            return next(results)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("convit.benchmark.running.measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(run_cases([small_case(), small_case(batch=4)], report))
    assert report.rows == first
    assert isinstance(Explanation("", (), {}, 0.0, "").shares, dict)
