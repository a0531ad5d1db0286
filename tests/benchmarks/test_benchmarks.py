"""The benchmarks' own machinery: what they report must be what they measured."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine, plan, report, runtime, targets
from convit.benchmark import Case, Row
from tests.benchmark.small import COST, made_row

BENCHMARKS = Path(report.__file__).parent
PLACE = {
    "device": "A Processor",
    "threads": 2,
    "cpu_flags": ["avx2"],
    "python": "3.11",
    "versions": {"torch": "2.15.0"},
    "date": "2026-01-02T03:04:05+00:00",
    "load_average": 0.1,
}
TIMES = {"median": 2.0, "low": 1.5, "high": 3.25, "least": 1.0}
ROWS = {
    "accuracy": {"model": "m", "precision": "int8", "computed_in": "fp32", "images": 10000, "top1": 80.0, "top5": 99.0}
    | {"loss": 0.6, "lost": 0.25, "target": 1.0},
    "startup": {"command": "convit --help", "libraries": "import typer, rich", "convit_ms": TIMES}
    | {"libraries_ms": TIMES, "ratio": 1.1, "target": 2.0, "extra_ms": 500.0, "met": True, "imports_torch": False},
    "runtime": {"program": "convit-runtime", "model": "m", "installed_mib": 154.8, "cpu_seconds": 0.23, "rounds": 7}
    | {"memory_mb": 91.0, "targets": {"installed_mib": 160.0, "cpu_seconds": 0.5, "memory_mb": 100.0}, "met": True},
    "exports": {"model": "m", "batch": 8, "ours_ms": TIMES, "theirs": "timm", "theirs_ms": TIMES, "ratio": 1.4}
    | {"target": 1.35, "met": True},
    "folder": {"model": "m", "precision": "fp32", "megapixels": 12, "fast_decode": False, "reading_ms": 110.0}
    | {"model_ms": 60.0, "possible": 11.8, "cores": 2, "images_per_second": {"1": 7.5, "2": 11.5}, "workers": 2}
    | {"share_percent": 97.8, "target_percent": 95.0},
    "decoding": {"photographs": "collages", "model": "m", "size": "224 x 224", "images": 10, "reduced": 8}
    | {"ready_full_ms": TIMES, "ready_fast_ms": TIMES, "speedup": 3.1, "mean_error": 0.4, "worst_mean_error": 0.8}
    | {"same_top1": None},
    "vectors": {"vectors": 100000, "dim": 768, "index": "IVF", "store_s": 3.25, "build_s": 127.4, "exact_ms": TIMES}
    | {"approximate_ms": TIMES, "recall": 0.99, "target": 0.98},
    "large_index": {"vectors": 1_000_000, "dim": 768, "add_s": 29.4, "add_cpu_s": 25.9, "build_s": 495.8, "more": 33344}
    | {"build_cpu_s": 301.4, "more_s": 86.3, "more_cpu_s": 58.5, "search_s": 36.7, "queries": 1000, "recall": 0.999}
    | {"peak_gb": 2.44, "gb": 4.6, "targets": {"minutes": 60, "gb": 8, "recall": 0.95}},
    "scale": {"loop": "shard", "images": [500, 2500], "cpu_ms_per_image": 6.8, "peak_mb": [774, 781], "of_plain": 1.029}
    | {"target": 0.98, "model": "m"},
    "parity": {"model": "m", "grid": "7 x 28", "precision": "fp32", "what": "logits", "against": "plain twin"}
    | {"their_error": 1e-6, "our_error": 3e-6, "limit": 2e-6, "holds": False},
}
TIMM, DEIT = "timm:convit_base", "timm:deit_base_patch16_224"


def keep(place: Path, benchmark: str, rows: list[dict[str, Any]], **more: Any) -> None:
    content = {"benchmark": benchmark, "machine": PLACE | more, "rows": rows}
    (place / "results").mkdir(exist_ok=True)
    (place / "results" / f"{benchmark}-{len(more)}.json").write_text(json.dumps(content))


def dated(row: dict[str, Any], place: dict[str, Any]) -> dict[str, Any]:
    return row | {name: place[name] for name in ("date", "load_average")}


def base_rows(images_per_second: dict[str, float], **fields: Any) -> list[Row]:
    relations = {"ours": "ours", "ours+compile": "equal", TIMM: "equal", DEIT: "another"}
    return [
        made_row(candidate=name, relation=relations.get(name, "equal"), images_per_second=speed, **fields)
        for name, speed in images_per_second.items()
    ]


def test_the_report_holds_every_benchmark(tmp_path: Path) -> None:
    for name, row in ROWS.items():
        keep(tmp_path, name, [row])
    text = report.write_report(tmp_path).read_text()
    assert text.count("\n## ") == len(report.TITLES)
    assert "**A Processor**, 2 threads (avx2); Python 3.11, torch 2.15.0; 2026-01-02, load average 0.1 before." in text
    assert "| `convit --help` | 2.0 (1.5 to 3.2) | `import typer, rich` | 2.0 (1.5 to 3.2) | **1.10** |" in text
    assert "| at most 2 x + 500 ms | yes | no |" in text
    assert "| `m` | fp32 | 12 | 110.0 | 60.0 | 11.8 on 2 cores | 7.5 (1), 11.5 (2) | **97.8 %** |" in text
    assert "| at least 95 % with 2 | yes |" in text
    assert (
        "| 100,000 x 768 | IVF | 3.2 | 127 | 2.0 (1.5 to 3.2) | 2.0 (1.5 to 3.2) | **0.990** | at least 0.98 |" in text
    )
    assert "| **3.10** | 0.400 | 0.800 | weights not present |" in text
    assert "| `m` | 155 | **0.23** | 91 | 160 and 0.5 and 100 | yes |" in text
    assert "| 1.0e-06 | 3.0e-06 | 2.0e-06 | **no** |" in text


def test_targets_without_a_run_are_listed_with_the_command_that_fills_them_in(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    text = report.write_report(tmp_path).read_text()
    assert "### Not measured on an H100\n\n`python benchmarks/targets.py --device cuda` fills these in." in text
    assert "| convit_base, bf16, best batch | images/s over timm:convit_base+amp | at least 4 x |" in text
    assert (
        "| convit_base, bf16, best batch | images/s over timm:deit_base_patch16_224+compile | at least 1.05 x |" in text
    )
    assert (
        "| convit_base, training step, bf16, batch 64 | images/s over timm:convit_base+compile | at least 1.8 x |"
        in text
    )
    assert "| memory of a step, over timm:convit_base+compile | at most 0.6 x |" in text
    assert "| convit_base, fp32, batch 8 | share of the measured peak | at least 75 % |" in text
    everything = plan.plan("cuda")
    for part in plan.PARTS:
        names = [each.name for each in everything if each.part == part]
        keep(tmp_path, f"targets-{part}", [{"name": name, "error": "no memory"} for name in names[:1]], cuda="13.0")
    text = report.write_report(tmp_path).read_text()
    listed = text.partition("### Not measured on an H100")[2]
    assert "| convit_base, bf16, best batch | images/s over timm:convit_base+amp |" not in listed
    assert "| convit_small, bf16, best batch | images/s over timm:convit_small+amp |" in listed
    for part in plan.PARTS:
        rows = [{"name": each.name, "error": "no memory"} for each in everything if each.part == part]
        keep(tmp_path, f"targets-{part}", rows, cuda="13.0")
    text = report.write_report(tmp_path).read_text()
    assert "### Not measured on an H100" not in text
    assert "### Not measured on a CPU" in text


def test_targets_are_judged_from_rows_and_reported(tmp_path: Path) -> None:
    measurement = next(each for each in plan.plan("cpu") if each.name == "convit_base, bf16, batch 8")
    rows = base_rows({"ours": 12.0, TIMM: 5.0, DEIT: 12.0, f"{TIMM}@fp32": 2.0}, peak_share=0.67, difference=0.006)
    said: list[str] = []
    kept = targets.run_part([measurement], said.append, lambda _: rows)
    assert said == [
        "convit_base, bf16, batch 8: images/s over timm:convit_base: 2.4 x (at least 2 x): met",
        "convit_base, bf16, batch 8: images/s over timm:deit_base_patch16_224: 1 x (at least 1.05 x): MISSED",
        "convit_base, bf16, batch 8: share of the measured peak: 67 % (at least 65 %): met",
        "convit_base, bf16, batch 8: images/s over timm:convit_base@fp32: 6 x (at least 5 x): met",
    ]
    assert [outcome["met"] for outcome in kept] == [True, False, True, True]
    assert kept[0]["theirs"]["candidate"] == TIMM
    keep(tmp_path, "targets-infer", kept)
    text = report.write_report(tmp_path).read_text()
    assert "### Images per second\n\n**A Processor**" in text
    assert "| images/s over timm:convit_base | **2.4** x | at least 2 x | yes | 800.0 (790.0 to 812.5) |" in text
    assert "| images/s over timm:deit_base_patch16_224 | **1** x | at least 1.05 x | **no** |" in text
    assert "| fp32, torch | 6.0e-03 |" in text


def test_a_goal_within_the_quartiles_is_not_met() -> None:
    measurement = plan.Measurement("infer", "base", (), ())
    slow, even = {"median": 100.0, "low": 90.0, "high": 110.0}, {"median": 100.0, "low": 100.0, "high": 100.0}
    rows = [made_row(step_ms=even, peak_share=0.8), *base_rows({TIMM: 8.0, DEIT: 8.0}, step_ms=slow)]
    target = plan.faster(TIMM, 1.2)  # 1.25 in the medians, 1.125 by the quicker quarter of timm's times
    assert targets.judge(measurement, target, rows)["met"] is False
    assert targets.judge(measurement, plan.faster(TIMM, 1.1), rows)["met"] is True
    assert targets.judge(measurement, plan.share_of_peak(78.0), rows)["met"] is True
    rows[0] = made_row(step_ms=slow, peak_share=0.8)
    assert targets.judge(measurement, plan.share_of_peak(78.0), rows)["met"] is False
    assert targets.judge(measurement, plan.faster("nobody", 1.1), rows)["met"] is None


def test_training_is_compared_with_our_own_in_fp32_where_it_is_computed_in_bf16() -> None:
    measurement = next(each for each in plan.plan("cpu", ["convit_tiny"], amx=True) if "step, bf16" in each.name)
    assert measurement.cases[0].against == ("timm:convit_tiny", "eager@fp32")
    over_timm, over_fp32 = measurement.targets
    rows = base_rows({"ours": 12.0, "eager@fp32": 5.0, "timm:convit_tiny": 8.0}, computed_in="bf16")
    assert (over_timm.value(rows), over_fp32.value(rows)) == (1.5, 2.4)
    assert (over_timm.bound, over_fp32.bound) == (2.0, 2.0)
    assert over_fp32.value(base_rows({"ours": 12.0, "eager@fp32": 12.0})) is None


def test_what_needs_amx_is_listed_until_a_processor_with_it_was_measured(tmp_path: Path) -> None:
    rows = [{"name": each.name, "error": "no memory"} for each in plan.plan("cpu") if each.part == "train"]
    keep(tmp_path, "targets-train", rows)
    listed = report.write_report(tmp_path).read_text().partition("### Not measured on a CPU with AMX")[2]
    step = "| convit_tiny, training step, bf16, batch 8 | images/s over ours in fp32 | at least 2 x |"
    assert step in listed
    assert "| convit_base, bf16, batch 1 | images/s over timm:deit_base_patch16_224 | at least 1.3 x |" in listed
    assert "fp32, batch" not in listed.partition("###")[0]
    keep(tmp_path, "targets-train", rows, cpu_flags=["amx_bf16"])
    assert step not in report.write_report(tmp_path).read_text()


def test_small_models_are_compared_per_operation() -> None:
    target = plan.faster_per_operation(DEIT, 1.0)
    rows = base_rows({"ours": 10.0, DEIT: 20.0})
    half = COST.__class__(1, 1, 1, (COST.executed or 0) // 4)
    assert target.value(rows) == pytest.approx(0.5)
    assert target.value([rows[0], made_row(candidate=DEIT, images_per_second=20.0, cost=half)]) == pytest.approx(2.0)


def test_the_best_batch_counts_for_everybody() -> None:
    target = plan.faster(TIMM, 1.8)
    rows = base_rows({"ours": 10.0, TIMM: 9.0}, batch=64) + base_rows({"ours+compile": 27.0, TIMM: 6.0}, batch=256)
    assert target.value(rows) == pytest.approx(3.0)
    assert target.value(rows[:1]) is None


def test_memory_and_its_growth() -> None:
    less = plan.less_memory(TIMM, 0.05)
    rows = [made_row(memory_mb=100.0), made_row(candidate=TIMM, relation="equal", memory_mb=2500.0)]
    assert less.value(rows) == pytest.approx(0.04)
    outcome = targets.judge(plan.Measurement("memory", "base", (), ()), less, rows)
    assert (outcome["found"], outcome["met"]) == (0.04, True)
    assert report.is_met(outcome | {"found": 0.06}) is False
    sizes = [
        made_row(height=side, width=side, memory_mb=side**2 / 1e4, cost=square_cost(side)) for side in (1024, 2048)
    ]
    assert plan._memory_growth(sizes) == pytest.approx(1.0)
    assert plan._growth(sizes) == 1.0
    assert plan._growth(sizes[:1]) is None


def square_cost(side: int) -> Any:
    patches = (side // 16) ** 2
    return COST.__class__(1, 1, 1, 10**9, patches, patches * 2 * (side // 16) * 768)


def test_scaling_keeps_a_line_per_size(tmp_path: Path) -> None:
    measurement = next(each for each in plan.plan("cpu") if each.part == "scaling")
    sides = iter(plan.SCALING_SIDES)

    def measured(case: Case) -> list[Row]:
        side = next(sides)
        assert case.size == (side, side)
        return [made_row(mode="memory", height=side, width=side, memory_mb=side**2 / 1e4, cost=square_cost(side))]

    kept = targets.run_part([measurement], lambda _: None, measured)
    assert [row["tokens"] for row in kept[2:]] == [196, 784, 1600, 4096, 16384]
    assert [row["met"] for row in kept[:2]] == [True, True]
    keep(tmp_path, "targets-scaling", kept)
    assert "| 2048 x 2048 | 16384 | 1 |" in report.write_report(tmp_path).read_text()


def test_rows_take_the_place_of_former_ones_of_their_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    first, later = PLACE, PLACE | {"date": "2026-02-03T04:05:06+00:00"}
    row = ROWS["scale"]
    loops = ("plain", "shard", "ray")
    for loop in loops:
        machine.save_result("scale", first, [row | {"loop": loop}])
    machine.save_result("scale", later, [row | {"loop": "shard", "of_plain": 0.5}])  # and then it was interrupted
    kept = machine.saved_rows("scale", later)
    assert [each["loop"] for each in kept] == list(loops)
    assert [each["date"][:10] for each in kept] == ["2026-01-02", "2026-02-03", "2026-01-02"]
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| `m` | shard | 6.80 | **50.0%** | at least 98% |" in text
    assert text.count("| 2026-01-02 |") == 2
    machine.save_result("targets-memory", first, [{"name": name, "error": "x"} for name in ("a", "b", "b", "c")])
    machine.save_result("targets-memory", later, [{"name": "b", "error": error} for error in ("y", "z")])
    assert [each["error"] for each in machine.saved_rows("targets-memory", later)] == ["x", "y", "z", "x"]


def test_no_two_rows_of_a_kept_result_are_of_one_case() -> None:
    assert machine.CASES.keys() == report.TITLES.keys()
    for path in (BENCHMARKS / "results").glob("*.json"):
        result = json.loads(path.read_text())
        if not result["benchmark"].startswith("targets"):  # several rows of one measurement
            assert {len(rows) for rows in machine._by_case(result["benchmark"], result["rows"]).values()} == {1}, path


def test_make_tells_which_benchmarks_it_runs() -> None:
    text = (BENCHMARKS.parent / "Makefile").read_text()
    run = set(re.findall(r"for name in (.*); do \$\(BIN\)/python benchmarks/", text)[0].split())
    told = set(re.findall(r"benchmarks/NAME.py, with NAME (.*)\"", text)[0].replace(",", "").replace(" or", "").split())
    assert run.isdisjoint(told)
    assert run | told == report.TITLES.keys() | {"serving"}


def test_results_are_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results").mkdir()
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    here = PLACE | {"device": "A (R) Processor"}
    assert machine.saved_rows("startup", here) == []
    machine.save_result("startup", here, [ROWS["startup"]])
    assert machine.saved_rows("startup", here) == [dated(ROWS["startup"], here)]
    assert machine.saved_rows("startup", here | {"device": "another"}) == []
    assert machine.saved_rows("startup", here | {"cpu_flags": ["avx512f", "avx2"]}) == []
    assert "convit --help" in (tmp_path / "RESULTS.md").read_text()


def test_what_cannot_be_measured_here_costs_nothing_else(tmp_path: Path) -> None:
    measurements = [each for each in plan.plan("cpu", ["convit_tiny"]) if each.part == "infer"][:2]
    calls = iter([ValueError("refused: timm gives\n other outputs"), base_rows({"ours": 2.0, "timm:convit_tiny": 1.0})])

    def measured(_: Case) -> list[Row]:
        found = next(calls)
        if isinstance(found, Exception):
            raise found
        return found

    said: list[str] = []
    kept = targets.run_part(measurements, said.append, measured)
    assert said[0] == "convit_tiny, fp32, batch 1: refused: timm gives other outputs"
    assert [("error" in row, row.get("met")) for row in kept] == [
        (True, None),
        (False, True),
        (False, None),
        (False, None),
    ]
    keep(tmp_path, "targets-infer", kept)
    text = report.write_report(tmp_path).read_text()
    assert "convit_tiny, fp32, batch 1: not measured: refused: timm gives other outputs" in text
    assert "| not measured |" in text


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_case_of_the_plan_can_be_asked_for(device: str) -> None:
    measurements = plan.plan(device)
    assert {measurement.part for measurement in measurements} == set(plan.PARTS) - (
        {"compiled"} if device == "cuda" else set()
    )
    for measurement in measurements:
        for case in measurement.cases:
            assert case.device == device
            names = [candidate.name for candidate in case.candidates()]
            assert len(names) == len(set(names))
            assert {target.against for target in measurement.targets if target.against} <= {
                name for each in measurement.cases for name in [candidate.name for candidate in each.candidates()]
            }


def test_a_part_end_to_end_on_one_core(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = Case("convit_nano_patch4_32", ("eager",), device="cpu", batch=1, rounds=1, threads=1)
    measurement = plan.Measurement("infer", "nano", (small,), (plan.faster("eager", 0.0),))
    monkeypatch.setattr(targets, "plan", lambda *_, **__: [measurement])
    monkeypatch.setattr("convit.benchmark.timing._SHAPES", {"cpu": ((64, 64, 64),)})
    monkeypatch.setattr(sys, "argv", ["targets.py", "--only", "infer", "memory", "--dry"])
    targets.main()
    printed = capsys.readouterr().out
    assert "nano: images/s over eager:" in printed
    assert printed.rstrip().endswith("(at least 0 x): met")
    assert "memory" not in printed


def test_the_report_in_the_repository_is_made_from_its_results(tmp_path: Path) -> None:
    shutil.copytree(BENCHMARKS / "results", tmp_path / "results")
    assert report.write_report(tmp_path).read_text() == (BENCHMARKS / "RESULTS.md").read_text()


def test_the_table_of_what_the_runtime_costs_is_that_of_a_kept_result() -> None:
    runs = [json.loads(path.read_text()) for path in (BENCHMARKS / "results").glob("runtime-*.json")]
    page = runtime.PAGE.read_text("utf-8")
    assert any(runtime.rows_of_page(run["rows"], run["machine"]) in page for run in runs)


def test_results_are_kept_by_benchmark_and_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    described = machine.describe_machine()
    assert described["versions"].keys() >= {"convit", "torch", "timm"}
    assert described["device"] == described["cpu"]
    path = machine.save_result("targets-memory", PLACE, [])
    assert path == tmp_path / "results" / "targets-memory-a-processor-avx2.json"
    assert (tmp_path / "RESULTS.md").read_text().startswith("# Results")
    path = machine.save_result("targets-memory", PLACE | {"device": "NVIDIA H100", "cuda": "13.0"}, [])
    assert path.name == "targets-memory-nvidia-h100.json"


def test_rows_are_said_and_kept_as_they_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    row = ROWS["startup"]

    def measured() -> Iterator[dict[str, Any]]:
        yield row
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine.keep_rows("startup", measured(), dry=False)
    described = machine.describe_machine()
    *said, printed = capsys.readouterr().out.splitlines()
    assert described["device"] in said[0]
    assert json.loads(printed) == row
    (kept,) = machine.saved_rows("startup", described)
    assert kept == dated(row, kept)
    assert machine.keep_rows("vectors", [ROWS["vectors"]], dry=True) == [ROWS["vectors"]]
    assert machine.saved_rows("vectors", described) == []
    assert vars(machine.benchmark_parser("What it does.", rounds=3).parse_args(["--dry"])) == {"dry": True, "rounds": 3}
