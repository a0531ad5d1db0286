"""Changes of a recipe against it: what is compared, and on which images."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from convit.output.text import read_lines
from studies.results import HELD_OUT, Scores, as_markdown
from studies.settings import BASE, plan_settings, read_changes
from studies.study import run_study
from tests.studies.results import result as made
from tests.studies.results import scores
from tests.training.small import TEXT, write_data

CHANGES = ["slow, seldom mixed: optimizer.lr=0.01 'mixing={probability: 0.1}'", "no EMA:ema=null"]


def test_changes_are_trained_alike_and_compared_on_the_images_held_out(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(TEXT)
    rows = read_changes(CHANGES, tmp_path / "small.yaml", ["schedule.cooldown_epochs=0"])
    assert list(rows) == [BASE, "slow, seldom mixed", "no EMA"]
    assert [row.optimizer.lr for row in rows.values()] == [0.1, 0.01, 0.1]
    assert [row.mixing.probability for row in rows.values()] == [0.5, 0.1, 0.5]
    data, output = write_data(tmp_path / "data"), tmp_path / "out"
    study = plan_settings(rows, 0.5, 1, data, epochs_at_full=1)
    assert [(run.recipe.schedule.epochs, run.images) for run in study.runs] == [(2, 16)] * 3
    run_study(study, data, output, HELD_OUT, quiet=True)
    results = json.loads((output / "results.json").read_text())["results"]
    assert [result["test_images"] for result in results] == [8] * 3
    for run, result in zip(study.runs, results, strict=True):
        # what the run itself said of the same images
        *_, last = read_lines(output / run.folder / "log.jsonl")
        assert result["top1"] == pytest.approx(last["val_top1"], abs=0.01)
    table = (output / "table.md").read_text()
    assert "top-1 of the final weights on 8 training images held out." in table
    assert "Training images per second: the recipe " in table


def test_a_setting_that_diverges_is_a_row_that_says_so_and_the_others_go_on(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(TEXT)
    wild = "'optimizer={lr: 1.0e+30}' schedule.warmup_epochs=0"
    rows = read_changes([f"wild: {wild}", "no EMA:ema=null"], tmp_path / "small.yaml", ["schedule.cooldown_epochs=0"])
    data, output = write_data(tmp_path / "data"), tmp_path / "out"
    study = plan_settings(rows, 1, 1, data, epochs_at_full=1)
    done = run_study(study, data, output, HELD_OUT, quiet=True)
    assert [each.model for each in done.results] == [BASE, "no EMA"]
    assert [each.model for each in done.diverged] == ["wild"]
    table = (output / "table.md").read_text()
    assert "| wild | 0.01 M | 1 diverged |" in table
    assert re.search(r"^- wild, 100 %, seed 1 has no top-1: the .* step \d+", table, re.MULTILINE)
    assert "not done yet" not in table
    rows = json.loads((output / "results.json").read_text())["results"]
    assert [(row["model"], row["top1"] is None) for row in rows] == [(BASE, False), ("no EMA", False), ("wild", True)]
    shutil.rmtree(data)  # nothing is trained again
    write_data(data)
    again = run_study(study, data, output, HELD_OUT, quiet=True)
    assert (again.results, again.diverged) == (done.results, done.diverged)


def test_where_the_recipe_itself_diverges_nothing_is_compared(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(TEXT)
    study = plan_settings(read_changes(CHANGES[1:], tmp_path / "small.yaml", []), 0.5, 1, write_data(tmp_path / "data"))
    broken = replace(made(BASE, "50 %", 1, 0.0), top1=None, diverged="the loss is nan at step 7")
    told = ["No change can be compared with the recipe, which diverged."]
    assert study.findings(Scores([broken, made("no EMA", "50 %", 1, 21.5)])) == told
    table = as_markdown(study, Scores([broken]), "", "")
    assert "| the recipe | 0.31 M | 1 diverged |" in table
    assert f"- {told[0]}\n- the recipe, 50 %, seed 1 has no top-1: the loss is nan at step 7.\n" in table


@pytest.mark.parametrize(
    "change",
    [
        *("seed=2", "data.train=train-0.tar", "data.held_out=4", "data.share=0.5"),
        *("schedule.epochs=9", "schedule.cooldown_epochs=0"),
    ],
)
def test_a_change_of_the_images_or_epochs_is_refused(tmp_path: Path, change: str) -> None:
    (tmp_path / "small.yaml").write_text(TEXT)
    rows = read_changes([f"other: {change}"], tmp_path / "small.yaml", [])
    with pytest.raises(ValueError, match=rf"'other' changes {change.partition('=')[0]} from .* the same images"):
        plan_settings(rows, 0.5, 1, write_data(tmp_path / "data"))


def test_the_best_is_named_first_and_a_single_seed_is_said(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(TEXT)
    rows = read_changes(CHANGES[1:], tmp_path / "small.yaml", [])
    study = plan_settings(rows, 0.5, 1, write_data(tmp_path / "data"))
    assert study.findings(scores()) == ["No change can be compared with the recipe yet."]
    found = study.findings(scores(the_recipe={"50 %": [20.0]}, no_EMA={"50 %": [21.5]}))
    assert found == [
        "Best is no EMA with 21.5 %.",
        "In order: no EMA 21.5 %, the recipe 20.0 %.",
        "Training images per second: the recipe 5000, no EMA 5000.",
        "Each has a single seed: chance cannot be ruled out.",
    ]
