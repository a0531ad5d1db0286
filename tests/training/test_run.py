"""Whole runs, small: what they leave, and that a killed one ends where an uninterrupted one does."""

import re
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from lightning.pytorch import Callback
from PIL import Image

from convit.data import TooManyCorruptError
from convit.training import places
from convit.training import trainer as trainer_module
from convit.training.checkpoints import Checkpoints
from convit.training.optimizers import peak_rate
from convit.training.places import last_checkpoint
from convit.training.recipe import OptimizerRecipe
from convit.training.recipe_io import read_recipe
from convit.training.run import run_recipe
from convit.training.run_folder import TrainingRun
from convit.training.task import DivergedError
from convit.weights import load_model
from tests.data.making import encoded, write_folder, write_members, write_shard
from tests.training.small import small_recipe, write_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def test_a_run_leaves_weights_that_describe_themselves_log_recipe_and_versions(tmp_path: Path, data: Path) -> None:
    recipe = small_recipe(tmp_path, "run.export=fp16")
    weights = run_recipe(recipe, data, tmp_path / "run", quiet=True)
    model = load_model(weights)
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 2)
    assert model.config.drop_path_rate == 0.0
    card = model.pretrained_cfg
    assert (card["label_names"], card["input_size"], card["trained_on"], card["license"]) == (
        ("even", "odd"),
        (3, 8, 8),
        "dots",
        "free",
    )
    assert {tensor.dtype for tensor in safetensors.torch.load_file(weights).values()} == {torch.float16}
    assert (tmp_path / "run" / "model.safetensors").readlink() == Path("weights.safetensors")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'run'}", pretrained=True).eval()
    assert theirs.pretrained_cfg["label_names"] == ["even", "odd"]
    image = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(image), model(image), rtol=0, atol=1e-5)
    lines = TrainingRun(tmp_path / "run").history
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    for key in ("train_loss", "val_loss", "val_top1", "lr", "images_per_second", "data_wait_share"):
        assert isinstance(lines[-1][key], float)
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 2
    assert read_recipe(tmp_path / "run" / "recipe.yaml") == recipe
    environment = (tmp_path / "run" / "environment.yaml").read_text()
    assert "torch:" in environment
    assert "train-0.tar:" in environment
    assert (tmp_path / "run" / "csv" / "metrics.csv").is_file()


class _Kill(Callback):
    """Ends the run after a step, once, as a crash would; a checkpoint is written a step before."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step - 1:
            next(each for each in trainer.callbacks if isinstance(each, Checkpoints)).write(trainer)
        if trainer.global_step == self.step:
            raise RuntimeError("killed")


@pytest.mark.parametrize(
    ("step", "options"),
    [(7, ()), (7, ("data.workers=2",)), (6, ("data.reader=stream", "data.held_out=1", "data.samples=32"))],
)
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, data: Path, step: int, options: tuple[str, ...]
) -> None:
    recipe = small_recipe(tmp_path, *options)
    whole = run_recipe(recipe, data, tmp_path / "whole", quiet=True)
    with pytest.raises(RuntimeError, match="killed"):
        run_recipe(recipe, data, tmp_path / "cut", quiet=True, callbacks=(_Kill(step),))
    resumed = run_recipe(recipe, data, tmp_path / "cut", resume=True, quiet=True)
    expected, found = safetensors.torch.load_file(whole), safetensors.torch.load_file(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    expected_lines, lines = TrainingRun(tmp_path / "whole").history, TrainingRun(tmp_path / "cut").history
    for key in ("epoch", "step", "train_loss", "val_loss", "val_top1", "lr"):
        assert [line[key] for line in lines] == [line[key] for line in expected_lines]
    assert all(0 < line["seconds"] < 100 for line in lines)  # of training, not since the machine was started


@pytest.mark.parametrize("options", [("run.select=last",), ("run.select=best",), ("run.select=last", "ema=null")])
def test_a_run_that_ended_at_its_last_step_writes_the_same_weights_again(
    tmp_path: Path, data: Path, options: tuple[str, ...]
) -> None:
    """Where nothing is left to train, the moving average is still what is written."""
    recipe = small_recipe(tmp_path, *options)
    expected = safetensors.torch.load_file(run_recipe(recipe, data, tmp_path / "run", quiet=True))
    (tmp_path / "run" / "weights.safetensors").unlink()
    unfinished = tmp_path / "run" / "checkpoints" / "step-000000003.part"  # of a process that was killed
    unfinished.write_bytes(b"half")
    found = safetensors.torch.load_file(run_recipe(recipe, data, tmp_path / "run", resume=True, quiet=True))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not unfinished.exists()


def test_sigterm_before_the_first_step_is_not_taken_for_ctrl_c(tmp_path: Path, data: Path) -> None:
    class Ended(Callback):
        def on_sanity_check_start(self, *_: object) -> None:
            raise SystemExit(143)  # as the command line's own handler does

        on_train_start = on_sanity_check_start

    with pytest.raises(SystemExit) as caught:
        run_recipe(small_recipe(tmp_path), data, tmp_path / "run", quiet=True, callbacks=(Ended(),))
    assert caught.value.code == 143


def test_it_learns_from_an_image_folder(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data" / "train", ["dark", "light"], per_class=16)
    for name, low in (("dark", 0), ("light", 128)):
        for number, path in enumerate(sorted((root / name).iterdir())):
            Image.fromarray(np.random.default_rng(number).integers(low, low + 128, (8, 8, 3), dtype=np.uint8)).save(
                path
            )
    recipe = small_recipe(
        tmp_path,
        "data.train=train",
        "schedule.epochs=5",
        "mixing={}",
        "ema=null",
        "data.decode=each",
        "run.batch_size=4",
    )
    run_recipe(recipe, tmp_path / "data", tmp_path / "run", quiet=True)
    assert TrainingRun(tmp_path / "run").history[-1]["val_top1"] == 100.0


def test_a_loss_that_is_no_number_stops_with_the_step(tmp_path: Path, data: Path) -> None:
    recipe = small_recipe(tmp_path, "optimizer.lr=1e30", "optimizer.clip_norm=null", "schedule.warmup_epochs=0")
    with pytest.raises(DivergedError, match=r"at step \d+.*optimizer.lr"):
        run_recipe(recipe, data, tmp_path / "run", quiet=True)
    for kept in (tmp_path / "run" / "checkpoints").glob("*"):
        weights = torch.load(kept, weights_only=True)["state_dict"]
        assert all(tensor.isfinite().all() for tensor in weights.values())


class _Poison(Callback):
    """Spoils a weight after the step's loss was found good."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 6:
            pl_module.model.head.weight.data.fill_(float("nan"))


def test_a_checkpoint_of_spoiled_weights_is_not_written(tmp_path: Path, data: Path) -> None:
    recipe = small_recipe(tmp_path, "run.checkpoint_steps=2")
    with pytest.raises(DivergedError, match=r"head.weight is not finite at step 6"):
        run_recipe(recipe, data, tmp_path / "run", quiet=True, callbacks=(_Poison(),))
    assert last_checkpoint(tmp_path / "run") == tmp_path / "run" / "checkpoints" / "step-000000004.ckpt"


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, saved = trainer_module.Trainer.save_checkpoint, []

    def fill(self: Any, path: Path, *rest: Any) -> None:
        save(self, path, *rest)
        saved.append(path)
        if len(saved) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer_module.Trainer, "save_checkpoint", fill)
    with pytest.raises(OSError, match=r"No space left on device.*step-000000004\.ckpt stays.*--resume"):
        run_recipe(small_recipe(tmp_path), data, tmp_path / "run", quiet=True)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000004.ckpt"]


@pytest.mark.parametrize("name", places.LEFT_BY_RUNS)
def test_what_a_folder_holds_of_a_run_is_kept(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("mine")
    for begin in (places.check_unused, partial(run_recipe, small_recipe(tmp_path), tmp_path)):
        with pytest.raises(FileExistsError, match=rf"run holds a run already \({name}\); .* choose another --output"):
            begin(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [name]
    assert (tmp_path / "run" / name).read_text() == "mine"
    assert places.choose_checkpoint(tmp_path / "run", resume=False, first=False) is None  # the first one has begun it


def test_too_many_corrupt_images_leave_a_folder_to_begin_in(tmp_path: Path, data: Path) -> None:
    write_members(data / "train-1.tar", [("x.png", b"torn"), ("x.cls", b"0")])
    for _ in range(2):
        with pytest.raises(TooManyCorruptError, match=r"remove them and that file, or raise data\.corrupt_limit"):
            run_recipe(small_recipe(tmp_path, "data.corrupt_limit=0"), data, tmp_path / "run", quiet=True)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["corrupt.jsonl"]


def test_runs_are_not_mixed_up(tmp_path: Path, data: Path) -> None:
    short = ("schedule.epochs=1", "schedule.cooldown_epochs=0")
    with pytest.raises(FileNotFoundError, match="there is no run in"):
        run_recipe(small_recipe(tmp_path, *short), data, tmp_path / "run", resume=True)
    run_recipe(small_recipe(tmp_path, *short), data, tmp_path / "run", quiet=True)
    assert last_checkpoint(tmp_path / "run") is not None
    with pytest.raises(FileExistsError, match="go on with --resume"):
        run_recipe(small_recipe(tmp_path, *short), data, tmp_path / "run")
    for change, key in (("model.options.depth=3", "model"), ("seed=5", "seed"), ("run.batch_size=4", "batch_size")):
        with pytest.raises(ValueError, match=rf"is of another run \({key} there: .*another --output"):
            run_recipe(small_recipe(tmp_path, *short, change), data, tmp_path / "run", resume=True)
    write_shard(data / "train-1.tar", range(40, 60))
    with pytest.raises(ValueError, match=r"is of another run \(files there:"):
        run_recipe(small_recipe(tmp_path, *short), data, tmp_path / "run", resume=True)


def test_a_changed_recipe_is_named_kept_and_trained_by(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, run = ("schedule.cooldown_epochs=0", "run.select=best"), tmp_path / "run"
    run_recipe(small_recipe(tmp_path, *short), data, run)
    first, *said = capsys.readouterr().err.splitlines()
    assert first == "convit: found 32 images of 2 classes (even, odd), 8 to validate with"
    assert not any("cool" in line for line in said)
    assert re.fullmatch(
        r"convit: epoch 1/2  train loss \S+  val loss \S+  val top-1 \S+ % \(best so far\)  .* left", said[0]
    )
    assert said[1].endswith("  done")
    longer = (*short, "schedule.epochs=3", "optimizer.lr=0.2", "optimizer.weight_decay=0.1", "mixing.mixup=0")
    run_recipe(small_recipe(tmp_path, *longer), data, run, resume=True)
    _, *said = capsys.readouterr().err.splitlines()
    for change in ("optimizer.lr: 0.1 → 0.2", "schedule.epochs: 2 → 3", "mixing.mixup: 0.8 → 0"):
        assert change in said[0]
    assert said[1] == "convit: resuming at step 8 in epoch 3/3"
    assert read_recipe(run / "recipe.before-8.yaml") == small_recipe(tmp_path, *short)
    assert read_recipe(run / "recipe.yaml") == small_recipe(tmp_path, *longer)
    last = last_checkpoint(run)
    assert last is not None
    groups = torch.load(last, weights_only=True)["optimizer_states"][0]["param_groups"]
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}
    assert {group["initial_lr"] for group in groups} == {peak_rate(OptimizerRecipe(lr=0.2), 8)}
    with pytest.raises(ValueError, match=r"trained with optimizer.name=adamw .* here it is optimizer.name=muon"):
        run_recipe(small_recipe(tmp_path, *longer, "optimizer.name=muon"), data, run, resume=True)
    kept = (run / "recipe.yaml").read_bytes()
    for change, words in (
        ("schedule.epochs=1", r"3 epochs are trained already, but schedule\.epochs .* 1 in all"),
        ("distillation={teacher: convit_nano_patch4_32.cifar10}", "distillation has changed"),
        (
            "optimizer.lr=0.3",
            r"trained to its end, too late for optimizer\.lr: 0\.2 → 0\.3; resume with",
        ),
        ("ema={decay: 0.31}", r"too late for ema\.decay: .* → 0\.31"),
    ):
        with pytest.raises(ValueError, match=words):
            run_recipe(small_recipe(tmp_path, *longer, change), data, run, resume=True, quiet=True)
    late = ("schedule.epochs=4", "schedule.final_epochs=2", "schedule.final_img_size=16")
    with pytest.raises(ValueError, match="would have begun with epoch 3, but 3 epochs are trained already"):
        run_recipe(small_recipe(tmp_path, *longer, *late), data, run, resume=True, quiet=True)
    assert (run / "recipe.yaml").read_bytes() == kept


def test_what_evaluation_alone_reads_may_change_at_a_resume(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short, change = ("schedule.cooldown_epochs=0",), ("augment.crop_pct=0.5", "augment.crop_mode=border")
    run_recipe(small_recipe(tmp_path, *short), data, tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match=r"too late for augment\.crop_pct: 1\.0 → 0\.5; augment\.crop_mode: .* resume"):
        run_recipe(small_recipe(tmp_path, *short, *change), data, tmp_path / "run", resume=True, quiet=True)
    for compared in ("run.select=best", "schedule.patience=2"):
        longer = small_recipe(tmp_path, *short, *change, "schedule.epochs=3", compared)
        with pytest.raises(ValueError, match=r"2 epochs were measured with another augment\.crop_pct"):
            run_recipe(longer, data, tmp_path / "run", resume=True, quiet=True)
    longer = small_recipe(tmp_path, *short, *change, "schedule.epochs=3")
    weights = run_recipe(longer, data, tmp_path / "run", resume=True)
    assert "augment.crop_pct: 1.0 → 0.5; augment.crop_mode: 'center' → 'border'" in capsys.readouterr().err
    assert load_model(weights).pretrained_cfg["crop_pct"] == 0.5
    with pytest.raises(ValueError, match=r"is of another run \(augment there:"):
        run_recipe(small_recipe(tmp_path, *short, "augment.padding=2"), data, tmp_path / "run", resume=True)


@pytest.mark.parametrize("reader", [(), ("data.reader=stream", "data.samples=16")])
def test_validation_images_are_those_that_the_run_began_with(
    tmp_path: Path, data: Path, reader: tuple[str, ...]
) -> None:
    own = ("data.train=train-0.tar", "data.held_out=0", "data.validation=train-1.tar", *reader)
    recipe, kept = small_recipe(tmp_path, *own, "schedule.epochs=1"), tmp_path / "run" / "checkpoints"
    run_recipe(recipe, data, tmp_path / "run", quiet=True)
    assert "validation_sha256:\n  train-1.tar:" in (tmp_path / "run" / "environment.yaml").read_text()
    write_shard(data / "train-1.tar", range(40, 60))
    with pytest.raises(ValueError, match=r"is of another run \(validation_files there:"):
        run_recipe(recipe, data, tmp_path / "run", resume=True, quiet=True)
    for file in kept.iterdir():  # as checkpoints were that did not say
        checkpoint = torch.load(file, weights_only=True)
        del checkpoint["convit_run"]["validation_files"]
        torch.save(checkpoint, file)
    assert run_recipe(recipe, data, tmp_path / "run", resume=True, quiet=True).is_file()


@pytest.mark.parametrize("ema", [("null", "{decay: 0.9}"), ("{decay: 0.9}", "null")])
def test_averaging_can_begin_and_end_at_a_resume(tmp_path: Path, data: Path, ema: tuple[str, str]) -> None:
    still = ("optimizer.lr=1e-20", "schedule={epochs: 2, cooldown_epochs: 0, warmup_epochs: 0, min_lr: 0}")
    run_recipe(small_recipe(tmp_path, *still, f"ema={ema[0]}"), data, tmp_path / "run", quiet=True)
    trained = torch.load(tmp_path / "run/checkpoints/step-000000004.ckpt", weights_only=True)
    expected = trained.get("current_model_state", trained["state_dict"])
    (tmp_path / "run/checkpoints/step-000000008.ckpt").unlink()
    recipe = small_recipe(tmp_path, *still, f"ema={ema[1]}")
    weights = safetensors.torch.load_file(run_recipe(recipe, data, tmp_path / "run", resume=True, quiet=True))
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[f"model.{name}"], atol=1e-6, rtol=1e-6)


def test_a_checkpoint_with_the_average_where_it_was_before_goes_on_the_same(tmp_path: Path, data: Path) -> None:
    recipe, kept = small_recipe(tmp_path, "run.keep=9"), tmp_path / "cut" / "checkpoints" / "step-000000004.ckpt"
    whole = run_recipe(recipe, data, tmp_path / "whole", quiet=True)
    run_recipe(recipe, data, tmp_path / "cut", quiet=True)
    checkpoint = torch.load(kept, weights_only=True)
    steps = int(checkpoint.pop("averaging_state")["n_averaged"])
    average, checkpoint["state_dict"] = checkpoint["state_dict"], checkpoint.pop("current_model_state")
    checkpoint["callbacks"]["WeightAveraging"] = {"steps": steps, "average": average}
    for later in kept.parent.iterdir():
        later.unlink()
    torch.save(checkpoint, kept)
    resumed = run_recipe(recipe, data, tmp_path / "cut", resume=True, quiet=True)
    expected, found = safetensors.torch.load_file(whole), safetensors.torch.load_file(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_damaged_checkpoint_is_named(tmp_path: Path, data: Path) -> None:
    recipe = small_recipe(tmp_path, "schedule.epochs=1", "schedule.cooldown_epochs=0")
    run_recipe(recipe, data, tmp_path / "run", quiet=True)
    last = last_checkpoint(tmp_path / "run")
    assert last is not None
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"{last.name} cannot be read .* remove it"):
        run_recipe(recipe, data, tmp_path / "run", resume=True, quiet=True)


def test_a_run_that_was_cut_off_before_its_first_checkpoint_starts_again(tmp_path: Path, data: Path) -> None:
    recipe = small_recipe(tmp_path, "schedule.epochs=1", "schedule.cooldown_epochs=0")
    with pytest.raises(RuntimeError, match="killed"):
        run_recipe(recipe, data, tmp_path / "run", quiet=True, callbacks=(_Cut(),))
    assert run_recipe(recipe, data, tmp_path / "run", resume=True, quiet=True).is_file()


class _Interrupt(Callback):
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 5:
            raise KeyboardInterrupt


def test_an_interrupted_run_says_so_and_keeps_its_checkpoint(tmp_path: Path, data: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_recipe(small_recipe(tmp_path), data, tmp_path / "run", quiet=True, callbacks=(_Interrupt(),))
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves Ctrl-C switched off
    assert last_checkpoint(tmp_path / "run") is not None


class _Cut(Callback):
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        raise RuntimeError("killed")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (["model.architecture=convit_nani"], "is not a variant; .*convit_tiny"),
        (["model.options.heads=3"], "'heads' is not a ConViT option"),
        (["model.options.num_classes=3"], "the model has 3 classes, but the data have 2"),
        (["data.held_out=40"], "held_out is 40"),
        (["run.batch_size=64"], "run.batch_size is 64, more than the 32 training images"),
        (["run.batch_size=8", "run.accumulate=3"], "choose a multiple of 6"),
        (["data.reader=stream", "data.held_out=1"], "data.samples must say"),
        (["data.reader=stream"], "must leave some to train on"),
        (["data.reader=stream", "data.held_out=1", "data.share=0.5"], "use data.reader=memory"),
        (["data.held_out=8", "data.validation=train-1.tar"], "choose one of them"),
        (["data.held_out=0", "run.select=best"], "run.select=best needs validation images"),
        (["data.held_out=0", "schedule.patience=2"], "schedule.patience needs validation images"),
        (["schedule.final_epochs=1"], "final_epochs and final_img_size go together"),
        (["schedule.final_epochs=1", "schedule.final_img_size=10"], "10 x 10 pixels .* is not tiled by patches of 4"),
        (["model.options.in_chans=1"], "in_chans is 1, but images are read as RGB; leave it out"),
        (
            ["model.options.global_pool=''"],
            "global_pool is '', but .* has 'token' or 'avg'; set model.options.global_pool=token",
        ),
        (["model.freeze=[tail]"], "names 'tail', but no parameter begins so; there are cls_token, pos_embed"),
        (["model.freeze=['']"], "leaves nothing to train"),
        (["model.weights=convit_tiny.fb_in1k"], "model.architecture is convit_nano_patch4_32; make them agree"),
        (["mixing.class_weights=[1, 2, 3]"], "3 weights, but there are 2 classes"),
        (["distillation={teacher: nobody}"], "'nobody', which is neither a weight set nor a file"),
        (["distillation={teacher: convit_nano_patch4_32.cifar10}"], "knows 10 classes, the student 2"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(tmp_path: Path, data: Path, changes: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        run_recipe(small_recipe(tmp_path, *changes), data, tmp_path / "run", quiet=True)


def test_wrong_shards_are_named(tmp_path: Path, data: Path) -> None:
    write_members(data / "train-1.tar", [("a.png", encoded(Image.new("RGB", (8, 8))))])
    with pytest.raises(ValueError, match=r"train-1\.tar"):
        run_recipe(small_recipe(tmp_path), data, tmp_path / "run", quiet=True)
    (data / "train-1.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"train-1\.tar"):
        run_recipe(small_recipe(tmp_path), data, tmp_path / "run", quiet=True)
