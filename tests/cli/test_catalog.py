"""`convit models` and `convit info`: what there is, with every cost counted."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convit.model import VARIANTS
from convit.weights import WEIGHT_SETS

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def rows(convit: Command) -> dict[str, dict[str, Any]]:
    run = convit("models")
    assert (run.code, run.err) == (0, "")
    return {row["name"]: row for row in run.rows}


def test_every_variant_and_weight_set_has_a_row(rows: dict[str, dict[str, Any]]) -> None:
    assert set(rows) == {*VARIANTS, *WEIGHT_SETS}


@pytest.mark.parametrize(
    ("name", "millions", "gmacs", "activations"),
    [
        ("convit_tiny", 5.71, 1.25, 7.94),
        ("convit_tiny_plus", 9.97, None, None),
        ("convit_small", 27.78, 5.75, 17.87),
        ("convit_small_plus", 48.98, None, None),
        ("convit_base", 86.54, 17.51, 31.77),
        ("convit_base_plus", 153.13, None, None),
    ],
)
def test_costs_are_those_of_others_tables(
    name: str, millions: float, gmacs: float | None, activations: float | None, rows: dict[str, dict[str, Any]]
) -> None:
    assert rows[name]["parameters"] / 1e6 == pytest.approx(millions, abs=0.005)
    if gmacs is not None:
        assert rows[name]["gmacs"] == pytest.approx(gmacs, abs=0.005)
        assert rows[name]["activations"] / 1e6 == pytest.approx(activations, abs=0.005)


def test_merits_terms_and_origin(rows: dict[str, dict[str, Any]]) -> None:
    base = rows["convit_base.fb_in1k"]
    assert (base["top1"], base["top5"]) == (82.30, 95.94)
    assert "timm" in base["measured_by"]
    assert base["license"] == "Apache-2.0"
    assert base["weights_from"] == "hub: timm/convit_base.fb_in1k"
    assert base["cached"] in (True, False)
    assert base["input_size"] == [3, 224, 224]
    assert rows["convit_base"]["weights_from"] == "convit_base.fb_in1k"
    assert rows["convit_base_plus"]["weights_from"] == ""


RELATIVES = {
    "convit_tiny": (81.13, 61.43, 8.71, 35.10, 22.27),
    "convit_small": (87.04, 70.71, 24.81, 45.25, 32.96),
    "convit_base": (87.20, 71.52, 29.39, 48.25, 35.32),
}


@pytest.mark.parametrize("name", RELATIVES)
def test_published_figures_come_with_their_source(name: str, rows: dict[str, dict[str, Any]]) -> None:
    row, paper = rows[f"{name}.fb_in1k"], rows[name]["published"]
    *tables, last = row["published"]
    assert {each["source"] for each in tables} == {"timm's result tables, the released file"}
    assert [each["data"] for each in tables] == [
        "imagenet", "imagenet-real", "imagenet-v2", "imagenet-a", "imagenet-r", "imagenet-sketch",
    ]  # fmt: skip
    assert tuple(each["top1"] for each in tables[1:]) == RELATIVES[name]
    assert (tables[0]["top1"], tables[0]["top5"]) == (row["top1"], row["top5"])
    assert row["measured"] is None
    assert [last] == paper == [{"data": "imagenet", "top1": rows[name]["top1"], "top5": None, "source": last["source"]}]
    assert "arXiv 2103.10697, Table 1" in last["source"]


def test_figures_of_models_that_were_never_released_are_the_papers(rows: dict[str, dict[str, Any]]) -> None:
    found = {name: [each["top1"] for each in rows[name]["published"]] for name in rows if name.endswith("_plus")}
    assert found == {"convit_tiny_plus": [76.7], "convit_small_plus": [82.2], "convit_base_plus": [82.5]}
    assert rows["convit_nano_patch4_32"]["published"] == []


def test_what_we_measured_stands_apart(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["convit_nano_patch4_32.cifar10"]
    assert row["published"] == []
    assert row["measured"] == {"top1": row["top1"], "top5": row["top5"], "source": row["measured_by"]}
    assert row["measured"]["source"].startswith("`convit evaluate` on ")


def test_the_same_rows_in_every_format(convit: Command, rows: dict[str, dict[str, Any]]) -> None:
    assert {row["name"]: row for row in json.loads(convit("models", "--format", "json").out)} == rows
    table = {row["name"]: row for row in csv.DictReader(io.StringIO(convit("models", "--format", "csv").out))}
    assert list(table) == list(rows)
    assert table["convit_base"]["parameters"] == str(rows["convit_base"]["parameters"])
    assert table["convit_base"]["input_size"] == "3x224x224"
    assert table["convit_base.fb_in1k"]["imagenet-real_top1"] == "87.2"
    assert table["convit_base.fb_in1k"]["paper_top1"] == table["convit_base"]["paper_top1"] == "82.4"
    nano = "convit_nano_patch4_32.cifar10"
    assert table[nano]["measured_top1"] == str(rows[nano]["top1"])


def test_a_terminal_gets_tables(convit: Command, rows: dict[str, dict[str, Any]]) -> None:
    run = convit("models", terminal={"out"})
    assert run.code == 0
    for name in rows:
        assert name in run.out
    for part in (
        "86.54",
        "17.51",
        "31.77",
        "82.30",
        "95.94",
        "87.20",
        "35.32",
        "Apache-2.0",
        "Accuracy of convit_tiny.fb_in1k",
    ):
        assert part in run.out
    for part in ("Published in timm's result tables", "Sketch", "Accuracy measured by this project", "paper's"):
        assert part in run.out


def test_a_variant_in_full(convit: Command) -> None:
    run = convit("info", "convit_base", terminal={"out"})
    assert run.code == 0
    lines = {line.strip() for line in run.out.splitlines()}
    assert "parameters                 86.54 M (86,540,040)" in lines
    assert "GMACs, paper's form        17.5055" in lines
    assert "GMACs, executed            16.3138" in lines
    assert "activations, paper's form  31.77 M (31,765,256)" in lines
    assert "num heads          16" in lines
    assert "accuracy published by others: ConViT, d'Ascoli et al. 2021, arXiv 2103.10697, Table 1" in lines
    assert "ImageNet-1k  top-1 82.4 %" in lines


def test_the_accuracies_of_a_weight_set_stand_under_whoever_found_them(convit: Command) -> None:
    released = convit("info", "convit_base.fb_in1k", terminal={"out"}).out
    timm = released.partition("timm's result tables, the released file\n")[2].partition("\n\n")[0]
    assert [line.split() for line in timm.splitlines()] == [
        ["ImageNet-1k", "top-1", "82.3", "%,", "top-5", "95.94", "%"],
        ["ImageNet", "ReaL", "top-1", "87.2", "%"],
        ["ImageNet", "V2", "top-1", "71.52", "%"],
        ["ImageNet-A", "top-1", "29.39", "%"],
        ["ImageNet-R", "top-1", "48.25", "%"],
        ["ImageNet-Sketch", "top-1", "35.32", "%"],
    ]
    assert "measured by this project" not in released
    ours = convit("info", "convit_nano_patch4_32.cifar10", "--format", "text").out
    assert "accuracy measured by this project: `convit evaluate` on " in ours
    assert "published by others" not in ours


def test_a_weight_set_in_full(convit: Command) -> None:
    facts = json.loads(convit("info", "convit_small.fb_in1k").out)
    assert facts["name"] == "convit_small.fb_in1k"
    assert facts["cost"]["gmacs_executed"] < facts["cost"]["gmacs"]
    assert facts["accuracy"]["top5"] == 95.74
    assert len(facts["accuracy"]["published"]) == 7
    assert facts["accuracy"]["measured"] is None
    assert facts["preprocessing"]["input_size"] == [3, 224, 224]
    assert facts["preprocessing"]["crop_pct"] == 0.875
    assert facts["classes"]["number"] == len(facts["classes"]["names"]) == 1000
    assert facts["weights"]["license"] == "Apache-2.0"
    assert facts["weights"]["hub_repository"] == "timm/convit_small.fb_in1k"
    assert facts["configuration"]["num_heads"] == 9


@pytest.mark.parametrize(
    ("name", "closest"),
    [("convit_bas", "'convit_base'"), ("convit_small.fb_in1", "'convit_small.fb_in1k'"), ("vgg16", "convit_tiny")],
)
def test_an_unknown_name(name: str, closest: str, convit: Command) -> None:
    convit("info", name).fails("error: there ", repr(name), closest)


def test_a_cached_file_is_named(convit: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    from convit.weights import hub

    monkeypatch.setattr(hub, "cached_file", lambda *_: tmp_path / "model.safetensors")
    facts = json.loads(convit("info", "convit_tiny.fb_in1k", "--format", "json").out)
    assert facts["weights"]["cached"] is True
    assert facts["weights"]["file"] == str(tmp_path / "model.safetensors")
