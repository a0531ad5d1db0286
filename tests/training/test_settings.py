"""What single settings of a recipe do to a whole, small run."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from lightning.pytorch import Callback
from torch import nn

from convit.data import open_samples
from convit.evaluation import match_classes
from convit.output.text import read_lines
from convit.training import places, trials
from convit.training import run as run_module
from convit.training.epoch_log import EpochBar
from convit.training.models import Teacher, build_model
from convit.training.recipe import AugmentRecipe, DistillationRecipe
from convit.training.run import run_recipe
from convit.training.run_folder import TrainingRun
from convit.training.splits import open_split, sample_images
from convit.training.trials import choose_parts, choose_precision
from convit.weights import class_names, class_wnids, create_model, load_model
from tests.data.making import write_folder
from tests.training.small import small_recipe, write_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


class _Sizes(Callback):
    def __init__(self) -> None:
        self.seen: dict[tuple[str, int], set[int]] = {}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.setdefault(("train", trainer.current_epoch), set()).add(batch[0].shape[-1])

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, *rest: Any) -> None:
        self.seen.setdefault(("validation", trainer.current_epoch), set()).add(batch[0].shape[-1])


@pytest.mark.parametrize("options", [("data.workers=1",), ("data.reader=stream", "data.held_out=1", "data.samples=16")])
def test_the_last_epochs_take_larger_images_and_so_do_the_weights(
    tmp_path: Path, data: Path, options: tuple[str, ...]
) -> None:
    sizes = _Sizes()
    recipe = small_recipe(tmp_path, "schedule.final_epochs=2", "schedule.final_img_size=16", *options)
    weights = run_recipe(recipe, data, tmp_path / "run", quiet=True, callbacks=(sizes,))
    assert sizes.seen == {
        (phase, epoch): {8 if epoch == 0 else 16} for phase in ("train", "validation") for epoch in range(3)
    }
    model = load_model(weights)
    assert (model.config.img_size, model.pos_embed.shape[1]) == ((16, 16), 16)  # type: ignore[union-attr]
    assert model.pretrained_cfg["input_size"] == (3, 16, 16)


class _Accuracies(Callback):
    """Puts chosen accuracies in the place of those measured, and marks the weights with the epoch."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        with torch.no_grad():
            pl_module.model.head.bias.fill_(100.0 + trainer.current_epoch)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        value = self.values[trainer.current_epoch]
        pl_module.on_validation_epoch_end = lambda: pl_module.log_dict({"val_loss": 1.0, "val_top1": value})


@pytest.mark.parametrize(("best", "size"), [(0, 8), (1, 16)])
def test_weights_are_written_for_the_image_size_of_their_epoch(
    tmp_path: Path, data: Path, best: int, size: int
) -> None:
    recipe = small_recipe(tmp_path, "schedule.final_epochs=2", "schedule.final_img_size=16", "run.select=best")
    accuracies = _Accuracies([90.0 if epoch == best else 50.0 for epoch in range(3)])
    weights = run_recipe(recipe, data, tmp_path / "run", quiet=True, callbacks=(accuracies,))
    assert load_model(weights).config.image_height == size


def test_the_best_epochs_weights_are_written_and_training_stops_when_patience_ends(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = small_recipe(
        tmp_path, "run.select=best", "schedule.patience=2", "schedule.epochs=9", "optimizer.lr=1e-9", "ema=null"
    )
    accuracies = _Accuracies([50.0, 70.0, 60.0, 65.0, 99.0])
    weights = run_recipe(recipe, data, tmp_path / "run", callbacks=(accuracies,))
    assert [line["epoch"] for line in TrainingRun(tmp_path / "run").history] == [1, 2, 3, 4]
    *_, second, third, _, last = capsys.readouterr().err.splitlines()
    assert "val top-1 70.00 % (best so far)" in second
    assert "val top-1 60.00 % (best 70.00 % in epoch 2)" in third
    assert last == (
        "convit: stopped early after epoch 4 of 10: for 2 epochs no val top-1 was above the 70.00 % of epoch 2"
    )
    assert load_model(weights).head.bias.mean().item() == pytest.approx(101.0, abs=0.01)
    outcome = TrainingRun(tmp_path / "run").best
    assert (outcome["epoch"], outcome["val_top1"]) == (2, 70.0)

    before = load_model(weights).state_dict()
    run_recipe(recipe, data, tmp_path / "run", callbacks=(accuracies,), resume=True)
    assert capsys.readouterr().err.splitlines()[-1] == last
    assert all(tensor.equal(before[name]) for name, tensor in load_model(weights).state_dict().items())
    patient = small_recipe(
        tmp_path, "run.select=best", "schedule.patience=3", "schedule.epochs=4", "optimizer.lr=1e-9", "ema=null"
    )
    run_recipe(patient, data, tmp_path / "run", callbacks=(accuracies,), resume=True)
    said = capsys.readouterr().err
    assert [line["val_top1"] for line in TrainingRun(tmp_path / "run").history] == [50.0, 70.0, 60.0, 65.0, 99.0]
    assert "schedule.patience: 2 → 3" in said
    assert "stopped early" not in said


def test_the_classes_lie_where_the_data_do(tmp_path: Path, data: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for file in data.iterdir():
        store.pipe(f"/of_a_test/{file.name}", file.read_bytes())
    recipe = small_recipe(tmp_path, "data.classes=classes.json")
    assert open_split(recipe, "memory://of_a_test", 8, 8).classes == open_split(recipe, data, 8, 8).classes
    store.rm("/of_a_test/classes.json")
    with pytest.raises(FileNotFoundError, match=r"there is no memory://of_a_test/classes\.json"):
        open_split(recipe, "memory://of_a_test", 8, 8)


def test_folders_called_by_wordnet_id_are_the_classes_that_a_list_names(tmp_path: Path) -> None:
    wnids = [class_wnids("imagenet1k")[number] for number in (281, 235)]
    write_folder(tmp_path / "data" / "train", wnids[::-1], 20)
    rows = [{"index": place, "name": name, "wnid": wnids[place]} for place, name in enumerate(("tabby", "shepherd"))]
    (tmp_path / "data" / "classes.json").write_text(json.dumps(rows))
    split = open_split(small_recipe(tmp_path, "data.train=train", "data.classes=classes.json"), tmp_path / "data", 8, 8)
    assert split.classes == ("tabby", "shepherd")
    evaluated = open_samples(tmp_path / "data" / "train")
    known = match_classes(evaluated, class_names("imagenet1k"), 1000)
    meant = {known[label]: ours for label, ours in zip(evaluated.labels, split.train.samples.labels, strict=True)}
    assert meant == {281: 0, 235: 1}


def test_a_model_is_watched_by_images_from_all_over_the_data(tmp_path: Path, data: Path) -> None:
    split = open_split(small_recipe(tmp_path), data, 8, 8)
    assert len(split.validation) == 8
    found, expected = sample_images(split, 5), [split.validation[place][0] for place in (0, 1, 3, 4, 6)]
    assert torch.equal(found, torch.stack(expected))
    assert len(sample_images(split, 100)) == 8


def test_a_share_of_the_images_is_taken_and_the_held_out_ones_stay(tmp_path: Path, data: Path) -> None:
    whole = open_split(small_recipe(tmp_path), data, 8, 8)
    half = open_split(small_recipe(tmp_path, "data.share=0.5"), data, 8, 8)
    assert (len(whole.train), len(half.train)) == (32, 16)  # type: ignore[arg-type]
    assert set(half.train.indices) < set(whole.train.indices)  # type: ignore[union-attr]
    assert half.validation.indices == whole.validation.indices  # type: ignore[union-attr]


def test_validation_images_of_their_own(tmp_path: Path, data: Path) -> None:
    split = open_split(
        small_recipe(tmp_path, "data.train=train-0.tar", "data.held_out=0", "data.validation=train-1.tar"), data, 8, 8
    )
    assert (len(split.train), len(split.validation)) == (20, 20)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        ("run.precision=bf16", "run.activation_checkpointing=true"),
        ("run.accumulate=auto", "run.strategy=ddp"),
        ("data.reader=stream", "data.held_out=1", "data.samples=16", "run.select=best"),
    ],
)
def test_settings_run_to_the_end_and_stay_finite(tmp_path: Path, data: Path, changes: tuple[str, ...]) -> None:
    weights = run_recipe(small_recipe(tmp_path, *changes), data, tmp_path / "run", quiet=True)
    assert all(parameter.isfinite().all() for parameter in load_model(weights).parameters())
    assert len(TrainingRun(tmp_path / "run").history) == 3


@pytest.mark.parametrize(
    "change",
    [
        "optimizer.name=muon",
        "optimizer.layer_decay=0.7",
        "data.balanced=true",
        "mixing.class_weights=[1, 3]",
        "augment.repeats=2",
    ],
)
def test_settings_that_change_the_weights_are_not_ignored(tmp_path: Path, data: Path, change: str) -> None:
    quick = ("ema=null", "schedule.epochs=1", "schedule.warmup_epochs=0", "schedule.cooldown_epochs=0")
    plain, changed = (
        load_model(run_recipe(small_recipe(tmp_path, *quick, *more), data, tmp_path / f"run{len(more)}", quiet=True))
        for more in ((), (change,))
    )
    weights = plain.get_parameter("blocks.1.mlp.fc1.weight"), changed.get_parameter("blocks.1.mlp.fc1.weight")
    assert weights[1].isfinite().all()
    assert not torch.equal(*weights)


def test_gates_and_non_locality_are_logged(tmp_path: Path, data: Path) -> None:
    run_recipe(small_recipe(tmp_path, "run.attention_images=4"), data, tmp_path / "run", quiet=True)
    lines = read_lines(tmp_path / "run" / "attention.jsonl")
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3]
    assert (len(lines[0]["gates"]), len(lines[0]["nonlocality"])) == (1, 2)


def test_the_bar_shows_validation_and_fits_narrow_terminals(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with numbers as large as ImageNet's."""
    shown = io.StringIO()
    bar = EpochBar()
    bar._console_kwargs = {"file": shown, "force_terminal": True, "width": 72}
    recipe = small_recipe(tmp_path, "schedule.epochs=299", "schedule.patience=1", "optimizer.lr=1e-9")
    monkeypatch.setattr(run_module, "EpochBar", lambda: bar)
    monkeypatch.setattr(run_module.sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(EpochBar, "_get_train_description", lambda *_: "epoch 100/300")
    run_recipe(recipe, data, tmp_path / "run")
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue()).replace("\r", "\n").splitlines()
    assert any(line.startswith("epoch 100/300") and "4/4" in line for line in lines)
    assert any(line.startswith("Validation") for line in lines)
    assert max(len(line.rstrip()) for line in lines) <= 72


def test_the_table_has_a_row_per_epoch_and_keeps_them_over_a_resume(tmp_path: Path, data: Path) -> None:
    for changes in ((), ("schedule.epochs=4",)):
        run_recipe(small_recipe(tmp_path, *changes), data, tmp_path / "run", resume=bool(changes), quiet=True)
    with (tmp_path / "run" / "csv" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert all(row["lr"] and row["val_top1"] and row["images_per_second"] and row["data_wait_share"] for row in rows)


def test_an_absent_logger_is_an_error_with_the_remedy(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(**options: Any) -> None:
        raise ModuleNotFoundError("no wandb")

    monkeypatch.setattr("lightning.pytorch.loggers.WandbLogger", absent)
    with pytest.raises(ImportError, match="pip install wandb"):
        run_recipe(small_recipe(tmp_path, "run.loggers=[wandb]"), data, tmp_path / "run", quiet=True)


class _Greedy(nn.Module):
    """Runs out of memory above some images."""

    num_classes = 2

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.weight = nn.Parameter(torch.ones(()))
        self.tried: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.tried.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("too many")
        return images.mean(dim=(1, 2, 3), keepdim=False)[:, None].expand(-1, 2) * self.weight


def test_a_step_is_cut_into_as_few_parts_as_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe(tmp_path, "run.batch_size=64", "run.accumulate=auto")
    cpu = torch.device("cpu")
    assert choose_parts(recipe, _Greedy(5), (8, 8), 1, cpu) == 1  # nothing to try on a CPU
    monkeypatch.setattr(trials, "can_run_out", lambda device: True)
    model = _Greedy(5)
    assert choose_parts(recipe, model, (8, 8), 2, cpu) == 8
    assert model.tried == [32, 16, 8, 4]
    with pytest.raises(ValueError, match="two images of 8 x 8 pixels do not fit"):
        choose_parts(recipe, _Greedy(1), (8, 8), 1, cpu)


@pytest.mark.parametrize(("pays", "expected"), [(True, "bf16"), (False, "fp32")])
def test_bf16_is_computed_in_fp32_where_that_is_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pays: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("convit.optimization.precision.bfloat16_pays", lambda: pays)
    model = _Greedy(100)
    for changes, chosen in (
        (("run.precision=bf16",), expected),
        (("run.precision=auto", "run.devices=2"), expected),  # processes agree without measuring
        *([] if pays else [(("run.precision=auto",), "fp32")]),  # nothing to measure
        (("run.precision=fp32",), "fp32"),
    ):
        assert choose_precision(small_recipe(tmp_path, *changes), model, (8, 8))[0] == chosen
    assert model.tried == []


def test_the_faster_precision_is_measured_written_down_and_kept(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("convit.optimization.precision.bfloat16_pays", lambda: True)
    seconds = {"fp32": 2.0, "bf16": 1.0}
    monkeypatch.setattr(trials, "time_pass", lambda model, batch, size, precision, device: seconds[precision])
    recipe, run = small_recipe(tmp_path, "run.precision=auto", "schedule.cooldown_epochs=0"), tmp_path / "run"
    run_recipe(recipe, data, run)
    assert "training in bf16: measured per image of a training step: fp32 250.00 ms, bf16" in capsys.readouterr().err
    seconds["fp32"] = 0.1
    longer = small_recipe(tmp_path, "run.precision=auto", "schedule.cooldown_epochs=0", "schedule.epochs=3")
    run_recipe(longer, data, run, resume=True, quiet=True)
    assert "precision: bf16" in (run / "environment.yaml").read_text()
    assert {line["precision"] for line in TrainingRun(run).history} == {"bf16"}


def test_measuring_leaves_the_model_and_the_random_numbers_as_they_are(tmp_path: Path) -> None:
    model = build_model(small_recipe(tmp_path))
    before, state = {name: each.clone() for name, each in model.state_dict().items()}, torch.get_rng_state()
    for train in (True, False):
        assert trials.time_pass(model, 4, (8, 8), "bf16", torch.device("cpu"), train=train) > 0
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_a_job_that_slurm_started_again_goes_on(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe(tmp_path)
    run_recipe(recipe, data, tmp_path / "run", quiet=True)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert places.was_requeued()
    assert run_recipe(recipe, data, tmp_path / "run", quiet=True).is_file()


def test_a_job_that_slurm_started_again_begins_where_it_had_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert places.choose_checkpoint(tmp_path, resume=False) is None
    with pytest.raises(FileNotFoundError, match="there is no run in"):
        places.choose_checkpoint(tmp_path, resume=True)
    (tmp_path / places.RECIPE).touch()
    assert places.choose_checkpoint(tmp_path, resume=False) is None
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    with pytest.raises(FileExistsError, match="go on with --resume"):
        places.choose_checkpoint(tmp_path, resume=False)


def test_no_process_of_several_goes_on_with_a_run_unasked(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    assert places.choose_checkpoint(tmp_path, resume=False, first=False) is None
    (tmp_path / "checkpoints" / "step-000000004.ckpt").touch()
    with pytest.raises(FileExistsError, match=r"holds a run already \(step-000000004\.ckpt\)"):
        places.choose_checkpoint(tmp_path, resume=False, first=False)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_teacher_sees_images_as_it_knows_them_and_its_loss_is_zero_for_its_own_answer(kind: str) -> None:
    augment = AugmentRecipe(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    recipe = DistillationRecipe.model_validate(
        {"teacher": "convit_nano_patch4_32.cifar10", "kind": kind, "temperature": 2.0}
    )
    teacher = Teacher(recipe, augment, 10)
    card = teacher.model.pretrained_cfg
    pixels = torch.rand(4, 3, 32, 32)
    mean, std = (torch.tensor(card[key])[:, None, None] for key in ("mean", "std"))
    expected = create_model("convit_nano_patch4_32.cifar10", pretrained=True).eval()((pixels - mean) / std)
    images = (pixels - 0.5) / 0.5
    torch.testing.assert_close(teacher(images), expected, atol=1e-4, rtol=1e-4)
    if kind == "soft":
        assert teacher.loss(expected, images).item() == pytest.approx(0.0, abs=1e-5)
        other = torch.randn(4, 10)
        by_hand = 4 * F.kl_div(F.log_softmax(other / 2, 1), F.softmax(expected / 2, 1), reduction="batchmean")
        assert teacher.loss(other, images).item() == pytest.approx(by_hand.item(), rel=1e-3)
    else:
        certain = 100 * F.one_hot(expected.argmax(dim=1), 10).float()
        assert teacher.loss(certain, images).item() == pytest.approx(0.0, abs=1e-5)


def test_a_teacher_of_torchvision_need_not_say_how_many_classes_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    resnet = torchvision.models.resnet18(num_classes=3)
    monkeypatch.setattr("convit.training.models.create_peer", lambda name, pretrained: resnet)
    teacher = Teacher(DistillationRecipe(teacher="torchvision:resnet18"), AugmentRecipe(), 3)
    assert teacher(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    with pytest.raises(ValueError, match="torchvision:resnet18 knows 3 classes, the student 2"):
        Teacher(DistillationRecipe(teacher="torchvision:resnet18"), AugmentRecipe(), 2)


def test_a_teacher_may_have_been_measured_beyond_the_edges_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    model.pretrained_cfg = {"mean": (0.4, 0.4, 0.4), "std": (0.2, 0.2, 0.2), "crop_pct": 1.15}  # as timm's volo_d5_512
    monkeypatch.setattr("convit.training.models.create_peer", lambda name, pretrained: model)
    teacher = Teacher(DistillationRecipe(teacher="timm:volo_d5_512"), AugmentRecipe(), 3)
    normalized = torch.zeros(1, 3, 4, 4) + (torch.tensor(AugmentRecipe().mean)[:, None, None] - 0.4) / 0.2
    torch.testing.assert_close(teacher(torch.zeros(1, 3, 4, 4)), model(normalized))


def test_a_student_learns_from_a_teacher_in_a_run(tmp_path: Path, data: Path) -> None:
    teacher = run_recipe(small_recipe(tmp_path), data, tmp_path / "teacher", quiet=True)
    recipe = small_recipe(tmp_path, f"distillation={{teacher: {teacher}, weight: 1.0, temperature: 2}}")
    weights = run_recipe(recipe, data, tmp_path / "student", quiet=True)
    assert not torch.equal(load_model(weights).head.weight, load_model(teacher).head.weight)
    assert build_model(recipe).state_dict().keys() == load_model(weights).state_dict().keys()
