"""Running a study: what it leaves, that nothing is done twice, and that studies are not mixed up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from convit.data import open_samples
from convit.evaluation import Evaluator
from convit.training.run import run_recipe
from studies import study as running
from studies.results import HELD_OUT
from studies.sample_efficiency import default_models, plan_sample_efficiency, read_models
from studies.study import Study, measure_top1, run_study
from tests.training.small import small_recipe, write_data

TEST = "train-1.tar"
QUICK = ("ema=null", "schedule.epochs=1", "schedule.cooldown_epochs=0")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Folders of the runs that are trained, with whether they are resumed."""
    found: list[tuple[str, bool]] = []

    def run(recipe: Any, data: Any, output: Path, *, resume: bool, quiet: bool) -> Path:
        found.append(("/".join(output.parts[-3:]), resume))
        return run_recipe(recipe, data, output, resume=resume, quiet=quiet)

    monkeypatch.setattr(running, "run_recipe", run)
    return found


def _study(
    folder: Path, data: Path, *changes: str, models: list[str] | None = None, shares: tuple[float, ...] = (1.0,)
) -> Study:
    recipe = small_recipe(folder, *QUICK, *changes)
    rows = read_models(models or default_models(recipe), recipe)
    return plan_sample_efficiency(recipe, rows, shares, 1, data)


def test_a_study_leaves_results_table_and_figures_and_is_not_done_again(
    tmp_path: Path, data: Path, calls: list[tuple[str, bool]]
) -> None:
    study, output = _study(tmp_path, data), tmp_path / "out"
    first = run_study(study, data, output, TEST, command="python x", quiet=True)
    assert calls == [("ConViT/share-1/seed-1", False), ("DeiT/share-1/seed-1", False)]
    results = json.loads((output / "results.json").read_text())
    assert (results["study"], results["command"]) == ("sample-efficiency", "python x")
    own = json.loads((output / "ConViT/share-1/seed-1/result.json").read_text())
    assert own == results["results"][0] == first.results[0].to_dict()
    shown = {key: own[key] for key in ("model", "share", "seed", "epochs", "test_images", "train_images")}
    assert shown == {"model": "ConViT", "share": 1.0, "seed": 1, "epochs": 1, "test_images": 20, "train_images": 32}
    assert own["params"] == study.runs[0].params
    assert own["seconds"] > 0
    table = (output / "table.md").read_text()
    assert f"| ConViT | 0.01 M | {own['top1']:.1f} (1 seed) |" in table
    assert "python x" in table
    with Image.open(output / "plot.png") as image:
        assert image.width > 400
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10
    assert "<svg" in (output / "plot.svg").read_text()
    again = run_study(study, data, output, TEST, quiet=True)
    assert again.results == first.results
    # a run that was trained, but not tested before it was cut off, is only tested
    (output / "ConViT/share-1/seed-1/result.json").unlink()
    assert run_study(study, data, output, TEST, quiet=True).results == first.results
    assert len(calls) == 2


def test_an_interrupted_study_goes_on_where_it_was(
    tmp_path: Path, data: Path, calls: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, output = _study(tmp_path, data), tmp_path / "out"
    measure: Callable[..., Any] = running.measure_top1
    monkeypatch.setattr(running, "measure_top1", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, data, output, TEST, quiet=True)
    # a run that was cut off in training leaves its recipe and perhaps checkpoints
    (output / "ConViT/share-1/seed-1/weights.safetensors").unlink()
    monkeypatch.setattr(running, "measure_top1", measure)
    run_study(study, data, output, TEST, quiet=True)
    assert calls == [
        ("ConViT/share-1/seed-1", False),
        ("ConViT/share-1/seed-1", True),
        ("DeiT/share-1/seed-1", False),
    ]


def test_more_shares_only_add_runs_and_other_studies_runs_can_be_reused(
    tmp_path: Path, data: Path, calls: list[tuple[str, bool]]
) -> None:
    run_study(_study(tmp_path, data), data, tmp_path / "out", TEST, quiet=True)
    wide = run_study(_study(tmp_path, data, shares=(0.5, 1.0)), data, tmp_path / "out", TEST, quiet=True)
    assert [folder for folder, _ in calls[2:]] == ["ConViT/share-0.5/seed-1", "DeiT/share-0.5/seed-1"]
    named = _study(tmp_path, data, models=["whole=convit_nano_patch4_32"])
    copied = run_study(named, data, tmp_path / "copy", TEST, reuse=[tmp_path / "out"], quiet=True)
    assert len(calls) == 4
    assert copied.results[0].model == "whole"
    ours, theirs = copied.cell("whole", "100 %"), wide.cell("ConViT", "100 %")
    assert ours == theirs is not None


def test_the_top1_is_that_of_convit_evaluate(tmp_path: Path, data: Path) -> None:
    recipe = small_recipe(tmp_path, *QUICK)
    weights = run_recipe(recipe, data, tmp_path / "run", quiet=True)
    tested = open_samples(data / TEST)
    found = Evaluator(weights=weights).evaluate(tested)
    assert measure_top1(recipe, weights, tested) == (pytest.approx(found.top1), 20)


@pytest.mark.parametrize("test", [TEST, HELD_OUT])
def test_what_is_tested_on_is_opened_once(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, test: str
) -> None:
    study, opened = _study(tmp_path, data, shares=(0.5, 1.0)), list[object]()
    monkeypatch.setattr(
        running, "open_samples", lambda *given, **more: opened.append(given) or open_samples(*given, **more)
    )
    with pytest.raises(FileNotFoundError, match="no folder gone to reuse"):
        run_study(study, data, tmp_path / "out", test, reuse=[Path("gone")], quiet=True)
    assert (len(study.runs), len(opened)) == (4, 1)


def test_classes_may_be_objects_in_a_study_as_in_a_run(tmp_path: Path, data: Path) -> None:
    (data / "classes.json").write_text(json.dumps([{"index": 0, "name": "even"}, {"index": 1, "name": "odd"}]))
    assert _study(tmp_path, data, "data.classes=classes.json").runs[0].images == 32


def test_a_model_of_timm_is_trained_and_tested(tmp_path: Path, data: Path) -> None:
    spec = "timm:deit_tiny_patch16_224,img_size=8,patch_size=4,embed_dim=8,depth=1,num_heads=2"
    study = _study(tmp_path, data, models=[f"DeiT={spec}"])
    scores = run_study(study, data, tmp_path / "out", TEST, quiet=True)
    cell = scores.cell("DeiT", "100 %")
    assert cell is not None
    assert 0 <= cell.mean <= 100


def test_studies_are_not_mixed_up(tmp_path: Path, data: Path) -> None:
    study, output = _study(tmp_path, data), tmp_path / "out"
    output.mkdir()
    (output / "study.json").write_text('{"study": "ablation"}')
    with pytest.raises(ValueError, match="out holds the study 'ablation', not 'sample-efficiency'; choose another"):
        run_study(study, data, output, TEST)
    (output / "study.json").rename(output / "precious.txt")
    with pytest.raises(ValueError, match="out holds something other than a study; choose another --output"):
        run_study(study, data, output, TEST)
    assert [path.name for path in output.iterdir()] == ["precious.txt"]


def test_runs_of_another_recipe_or_test_are_refused(tmp_path: Path, data: Path) -> None:
    output = tmp_path / "out"
    models = ["ConViT=convit_nano_patch4_32"]
    run_study(_study(tmp_path, data, models=models), data, output, TEST, quiet=True)
    with pytest.raises(ValueError, match=r"was tested on train-1\.tar, not on train-0\.tar; choose another --output"):
        run_study(_study(tmp_path, data, models=models), data, output, "train-0.tar", quiet=True)
    other = _study(tmp_path, data, "optimizer.lr=0.2", models=models)
    with pytest.raises(ValueError, match="holds a run of another recipe; repeat the study's first options"):
        run_study(other, data, output, TEST, quiet=True)
    (output / "ConViT/share-1/seed-1/result.json").unlink()
    with pytest.raises(ValueError, match="holds a run of another recipe; repeat the study's first options"):
        run_study(other, data, output, TEST, quiet=True)


def test_absent_test_images_and_folders_are_named_before_training(
    tmp_path: Path, data: Path, calls: list[tuple[str, bool]]
) -> None:
    study = _study(tmp_path, data)
    with pytest.raises(FileNotFoundError, match=r"no shard at .*none.tar"):
        run_study(study, data, tmp_path / "out", "none.tar")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*gone to reuse runs from"):
        run_study(study, data, tmp_path / "out", TEST, reuse=[tmp_path / "gone"])
    assert calls == []


def test_a_damaged_result_is_named(tmp_path: Path, data: Path) -> None:
    study, output = _study(tmp_path, data), tmp_path / "out"
    (output / "ConViT/share-1/seed-1").mkdir(parents=True)
    (output / "study.json").write_text('{"study": "sample-efficiency"}')
    (output / "ConViT/share-1/seed-1/result.json").write_text("{}")
    with pytest.raises(ValueError, match=r"result.json is not the result of a run; remove it"):
        run_study(study, data, output, TEST)


def _interrupt(*_: object) -> float:
    raise KeyboardInterrupt
