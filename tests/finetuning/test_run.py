"""Fine-tuning from Python: the baseline beside the result, what is measured once and kept, and the run that is left."""

import json
import re
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback
from PIL import Image

import convit
from convit.data import open_samples
from convit.evaluation import Evaluator
from convit.evaluation.probes.fitting import fit_linear
from convit.finetuning import rates
from convit.finetuning import run as run_module
from convit.finetuning.baseline import Baseline, advise_freezing, fit_baseline
from convit.finetuning.cost import measure
from convit.finetuning.options import FinetuneOptions
from convit.finetuning.plan import Plan, plan_finetune
from convit.finetuning.rates import choose_by_trying
from convit.finetuning.report import RunSummary, write_report
from convit.finetuning.run import FinetuneRun
from convit.training import trials
from convit.training.run import run_recipe
from convit.training.run_folder import TrainingRun
from tests.data.making import write_shard
from tests.training.small import small_recipe, write_data

NANO = "convit_nano_patch4_32.cifar10"
CPU = torch.device("cpu")
QUICK = ("data.workers=0", "run.loggers=[]")


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three kinds of stripes, 12 images each, of two sides and with noise."""
    folder, noise = tmp_path_factory.mktemp("stripes") / "patt\u202eerns", np.random.default_rng(7)
    ramp = np.arange(32) // 4 % 2 * 160 + 40
    bases = {"across": np.tile(ramp[:, None], 32), "down": np.tile(ramp, (32, 1)), "plain": np.full((32, 32), 120)}
    for name, base in bases.items():
        (folder / name).mkdir(parents=True)
        for number in range(12):
            pixels = np.clip(base[..., None] + noise.normal(0, 25, (32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def frozen(stripes: Path) -> FinetuneRun:
    """A head that starts from the baseline and hardly moves."""
    run = convit.finetune(
        stripes,
        stripes.parent / "frozen",
        model=NANO,
        epochs=2,
        lr=1e-9,
        freeze=("backbone",),
        changes=QUICK,
        quiet=True,
    )
    assert run is not None
    return run


def _plan(source: Path, **options: Any) -> Plan:
    return plan_finetune(source, FinetuneOptions(model=NANO, **({"changes": QUICK} | options)), device=CPU)


def test_a_run_gives_its_history_model_classifier_and_report(frozen: FinetuneRun, stripes: Path) -> None:
    assert [line["epoch"] for line in frozen.history] == [1, 2]
    assert not frozen.model.training
    assert frozen.classifier.labels == ("across", "down", "plain")
    assert len(frozen.classifier(stripes / "down" / "3.png")) == 3
    assert frozen.report == frozen.folder / "report.html"
    assert frozen.images == 36
    assert TrainingRun(frozen.folder).history == frozen.history


def test_a_frozen_backbone_starts_from_the_baseline(frozen: FinetuneRun, stripes: Path) -> None:
    found = fit_baseline(_plan(stripes, epochs=2, freeze=("backbone",)), quiet=True)
    assert found is not None
    baseline, head = found
    torch.testing.assert_close(frozen.model.head.weight, head.weight, atol=1e-4, rtol=1e-3)
    assert frozen.baseline == baseline
    assert frozen.evaluation is not None
    assert frozen.evaluation.top1 == pytest.approx(baseline.top1)
    assert [line["val_top1"] for line in frozen.history] == [pytest.approx(baseline.top1, abs=1e-3)] * 2


def test_the_baseline_stands_in_the_report(frozen: FinetuneRun) -> None:
    assert frozen.report is not None
    assert frozen.baseline is not None
    report = json.loads((frozen.folder / "report.json").read_text())
    assert report["baseline"]["top1"] == frozen.baseline.top1
    assert report["baseline"]["count"] == report["validation_images"]
    page = frozen.report.read_text()
    assert "logistic regression on the embeddings before training" in page
    # the folder's name turns the direction of writing: it is set apart, in an element of its own or in a block
    named = re.findall(r"<(\w+)(?: class=\"soft\")?>[^<]*\u202e", page.partition("</title>")[2])
    assert "bdi" in named
    assert set(named) <= {"bdi", "pre", "td"}


def test_features_that_training_made_worse_are_said(frozen: FinetuneRun, stripes: Path) -> None:
    plan, baseline = _plan(stripes), Baseline(84.5, 9, 30, 1.0, NANO)
    assert advise_freezing(baseline, 73.5, plan.recipe) == (
        "the features before training did better (84.5 % against 73.5 %): try --freeze backbone, which starts from them"
    )
    assert (
        advise_freezing(baseline, 84.5, plan.recipe) == advise_freezing(None, 1.0, plan.recipe) == frozen.advice == ""
    )
    assert advise_freezing(baseline, 73.5, _plan(stripes, freeze=("backbone",)).recipe) == ""
    better = replace(baseline, top1=101.0)
    evaluation = Evaluator(weights=frozen.weights).evaluate(open_samples(stripes))
    summary = RunSummary(plan, frozen.model.config, [], {}, 1.0, None, better, evaluation)
    page = write_report(frozen.folder, summary, open_samples(stripes)).read_text()
    assert "try --freeze backbone" in page


def test_a_test_part_is_scored_once_at_the_end(stripes: Path, tmp_path: Path) -> None:
    for part, moved in (("Train", range(2, 12)), ("Test", range(2))):
        for name, number in product(("across", "down", "plain"), moved):
            (tmp_path / "data" / part / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(stripes / name / f"{number}.png", tmp_path / "data" / part / name)
    (tmp_path / "data" / "Test" / "plain" / "1.png").write_bytes(b"damaged")
    for number in range(2, 6):  # of which at most two are held out
        shutil.copy(stripes / "across" / f"{number}.png", tmp_path / "data" / "Test" / "across")
    run = convit.finetune(
        tmp_path / "data", tmp_path / "run", model=NANO, epochs=1, freeze=("backbone",), changes=QUICK, quiet=True
    )
    assert run is not None
    assert run.test is not None
    assert run.report is not None
    whole = Evaluator(weights=run.weights).evaluate(open_samples(tmp_path / "data" / "Test"))
    assert (run.test.count, run.test.top1, run.test.loss) == (9, whole.top1, whole.loss)
    assert run.test.data_sha256 == whole.data_sha256
    assert list(run.unreadable) == ["Test/plain/1.png"]
    report = json.loads((run.folder / "report.json").read_text())
    assert report["test"]["top1"] == whole.top1
    assert re.match(r"[2-4] of 10 test images are copies of training images", report["warnings"][-1])
    assert report["training_images"] + report["validation_images"] == 30
    assert f"{whole.correct_top1} of 9 test images" in run.report.read_text()


def test_data_that_hold_some_of_the_numbers_are_scored_as_in_the_run(tmp_path: Path) -> None:
    (data := tmp_path / "data").mkdir()
    for part, numbers in (("train", range(24)), ("test", [each for each in range(24, 48) if each % 3])):
        write_shard(data / f"{part}-0.tar", numbers, classes=3)
    options: dict[str, Any] = {"epochs": 1, "freeze": ("backbone",), "changes": QUICK, "quiet": True}
    run = convit.finetune(data, tmp_path / "run", model=NANO, **options)
    assert run is not None
    assert run.test is not None
    again = Evaluator(weights=run.weights).evaluate(open_samples(data, split="test"))
    assert (again.top1, again.loss, again.classes_in_data) == (run.test.top1, run.test.loss, 2)
    assert again.data_sha256 == run.test.data_sha256
    assert run.classifier.labels == ("0", "1", "2")


def test_weights_of_gray_images_are_fine_tuned_on_color(stripes: Path, tmp_path: Path) -> None:
    convit.save_weights(tmp_path / "gray.safetensors", convit.create_model(NANO, pretrained=True, in_chans=1))
    options: dict[str, Any] = {"model": str(tmp_path / "gray.safetensors"), "epochs": 1, "quiet": True}
    run = convit.finetune(stripes, tmp_path / "run", changes=QUICK, **options)
    assert run is not None
    assert run.model.config.in_chans == 3
    with pytest.raises(ValueError, match=r"in_chans is 1, but images are read as RGB; leave it out"):
        convit.finetune(stripes, tmp_path / "no", changes=(*QUICK, "model.options.in_chans=1"), **options)
    assert not (tmp_path / "no").exists()


def test_a_start_that_no_epoch_beats_is_what_is_written(stripes: Path, tmp_path: Path) -> None:
    options = {"epochs": 1, "freeze": ("backbone",), "lr": 30.0, "changes": (*QUICK, "optimizer.clip_norm=null")}
    run = convit.finetune(stripes, tmp_path / "run", model=NANO, quiet=True, **options)
    assert run is not None
    assert run.baseline is not None
    assert run.history[0]["val_top1"] < run.baseline.top1
    assert run.best["epoch"] == json.loads((run.folder / "report.json").read_text())["epochs"]["best"] == 0
    assert run.report is not None
    assert "1 of 1 epochs; the weights are those before training" in run.report.read_text()
    assert run.evaluation is not None
    assert run.evaluation.top1 == pytest.approx(run.baseline.top1)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_fitted_head_scores_as_the_regression_does(classes: int) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(classes)
    labels = np.arange(60) % classes
    vectors = (generator.normal(5, 3, (60, 4)) + labels[:, None]).astype(np.float32)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200)).fit(vectors, labels)
    weights, biases = fit_linear(vectors, labels, 0.1)
    logits = torch.from_numpy(vectors @ weights.T + biases)
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), model.predict_proba(vectors), atol=1e-5)


def test_the_number_of_threads_becomes_part_of_the_recipe(stripes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials.torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(trials.torch, "set_num_threads", lambda _: None)
    plan, _ = measure(_plan(stripes), CPU)
    assert plan.recipe.run.threads == 4
    assert "threads: 4  # what PyTorch takes here" in plan.to_yaml()
    chosen, _ = measure(_plan(stripes, changes=(*QUICK, "run.threads=3")), CPU)
    assert chosen.recipe.run.threads == 3


def test_the_faster_precision_of_the_processor_is_measured_and_kept(
    stripes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convit.optimization.precision.bfloat16_pays", lambda: True)
    seconds = {"fp32": 1.2, "bf16": 1.0}
    monkeypatch.setattr(trials, "time_pass", lambda model, batch, size, precision, device: seconds[precision])
    plan, _ = measure(_plan(stripes), CPU)
    assert plan.recipe.run.precision == "bf16"
    assert "precision: bf16  # measured per image of a training step: fp32 " in plan.to_yaml()
    chosen, _ = measure(_plan(stripes, changes=(*QUICK, "run.precision=fp32")), CPU)
    assert chosen.recipe.run.precision == "fp32"
    seconds["fp32"] = 1.05  # too little to round more for
    assert measure(_plan(stripes), CPU)[0].recipe.run.precision == "fp32"


def test_random_weights_are_called_so_and_their_model_is_measured(
    stripes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("convit.finetuning.cost.find_starting_weights", lambda *_: pytest.fail("another model"))
    output = stripes.parent / "scratch"
    run = convit.finetune(stripes, output, model=NANO, epochs=1, changes=(*QUICK, "model.weights=null"))
    assert run is not None
    said = capsys.readouterr().err
    assert "fine-tuning convit_nano_patch4_32 with random weights, " in said
    assert "embeddings of convit_nano_patch4_32 with random weights, without" in said
    page = (output / "report.html").read_text("utf-8")
    assert "from <bdi>random weights</bdi>" in page
    assert "None" not in said
    assert "% of an image or more" in page


def test_a_run_computes_with_the_threads_of_its_recipe(tmp_path: Path) -> None:
    class Note(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            seen.add(torch.get_num_threads())

    seen: set[int] = set()
    before = torch.get_num_threads()
    recipe = small_recipe(tmp_path, f"run.threads={before + 1}")
    run_recipe(recipe, write_data(tmp_path / "data"), tmp_path / "run", quiet=True, callbacks=(Note(),))
    assert (seen, torch.get_num_threads()) == ({before + 1}, before)


def test_the_rate_that_leaves_the_lowest_loss_is_taken(stripes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = _plan(stripes, epochs=80)
    monkeypatch.setattr(rates, "_try", lambda *_: [1.5, 1.25, 0.75])
    tried = choose_by_trying(plan, None, CPU)
    for section, key in (("optimizer", "lr"), ("schedule", "min_lr"), ("schedule", "warmup_lr")):
        before, after = (getattr(getattr(each.recipe, section), key) for each in (plan, tried))
        assert after == pytest.approx(3 * before, rel=0.01)
    assert "0.750 at" in next(choice.reason for choice in tried.choices if choice.key == "optimizer.lr")
    asked = _plan(stripes, epochs=80, lr=2e-3)
    assert choose_by_trying(asked, None, CPU) is asked
    short = _plan(stripes, epochs=2)
    assert choose_by_trying(short, None, CPU) is short


def test_trying_rates_is_repeatable_skips_unreadable_images_and_sees_divergence(
    stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "FACTORS", (1.0, 1e30))
    folder = tmp_path / "patterns"
    for path in stripes.glob("*/*.png"):
        target = folder / path.relative_to(stripes)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"torn" if path.stem in ("2", "5") else path.read_bytes())
    monkeypatch.setattr("convit.optimization.precision.bfloat16_pays", lambda: False)  # computed in fp32 then
    asked = [(*QUICK, f"run.precision={precision}") for precision in ("fp32", "bf16")]
    plans = [choose_by_trying(_plan(folder, epochs=80, changes=changes), None, CPU) for changes in asked]
    assert plans[0].recipe.optimizer == plans[1].recipe.optimizer
    reason, again = (next(each.reason for each in plan.choices if each.key == "optimizer.lr") for plan in plans)
    assert reason == again
    assert "inf at" in reason or "nan" not in reason
    monkeypatch.setattr(rates, "_readable", lambda *_: iter(()))
    plan = _plan(folder, epochs=80)
    assert choose_by_trying(plan, None, CPU) is plan


def test_what_was_measured_is_kept_when_a_run_is_resumed(frozen: FinetuneRun, stripes: Path) -> None:
    before = yaml.safe_load((frozen.folder / "recipe.yaml").read_text())
    assert before["run"]["threads"] is not None
    again = convit.finetune(stripes, frozen.folder, resume=True, epochs=3, quiet=True)
    assert again is not None
    after = yaml.safe_load((frozen.folder / "recipe.yaml").read_text())
    assert (after["run"], after["optimizer"]) == (before["run"], before["optimizer"])
    assert again.baseline == frozen.baseline
    assert [line["epoch"] for line in again.history] == [1, 2, 3]


def test_a_job_that_slurm_started_again_goes_on(stripes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resume_plan(*_: object) -> Plan:
        raise InterruptedError("going on")

    monkeypatch.setattr(run_module, "resume_plan", resume_plan)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(InterruptedError, match="going on"):
        convit.finetune(stripes, tmp_path, quiet=True)
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    with pytest.raises(FileExistsError, match="go on with --resume"):
        convit.finetune(stripes, tmp_path, quiet=True)


def test_train_takes_a_recipe_and_gives_the_run(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    small_recipe(tmp_path)
    run = convit.train(tmp_path / "small.yaml", data, tmp_path / "run", changes=["schedule.epochs=1"], quiet=True)
    assert [line["epoch"] for line in run.history] == [1, 2]
    assert run.best["epoch"] == 2
    assert (run.report, run.skipped, run.images) == (None, {}, 40)
    assert run.classifier.labels == ("even", "odd")
    same = convit.train(small_recipe(tmp_path, "schedule.epochs=1"), data, tmp_path / "again", quiet=True)
    assert all(torch.equal(*pair) for pair in zip(run.model.parameters(), same.model.parameters(), strict=True))


def test_unknown_options_are_refused(stripes: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="rounds"):
        convit.finetune(stripes, tmp_path / "run", rounds=3)


def test_the_room_and_the_function_do_not_collide() -> None:
    import convit.finetuning
    import convit.training

    assert callable(convit.finetune)
    assert callable(convit.train)
