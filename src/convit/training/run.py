"""A whole training run: recipe in, weights out."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, Trainer
from torch import nn

from convit.data.corrupt import CorruptImages
from convit.data.samples import Samples
from convit.model import ConViT
from convit.optimization.timing import thread_count
from convit.output.console import STOPPING, is_terminal, say
from convit.output.text import read_lines
from convit.training.checkpoints import Checkpoints, RunStopped
from convit.training.epoch_log import AttentionLog, EpochBar, EpochLog
from convit.training.final_weights import BestWeights, FittedHead, MovingAverage, write_weights
from convit.training.models import Teacher, build_model, class_count, image_size, set_head
from convit.training.places import LOG, choose_checkpoint, default_folder, last_checkpoint
from convit.training.recipe import Recipe
from convit.training.recipe_io import read_recipe
from convit.training.run_folder import (
    UNREADABLE,
    WEIGHTS,
    TrainingRun,
    check_identity,
    identity,
    kept_precision,
    note_changes,
    resume_command,
    steps_of,
    write_description,
)
from convit.training.splits import Split, StreamSource, open_split, sample_images, steps_per_epoch
from convit.training.task import ClassificationTask, weigh_classes
from convit.training.trainer import RecipeData, build_trainer, quiet_libraries
from convit.training.trials import choose_parts, choose_precision


def train(
    recipe: Recipe | str | Path,
    data: str | Path = ".",
    output: str | Path | None = None,
    *,
    changes: Sequence[str] = (),
    resume: bool = False,
    quiet: bool = False,
    callbacks: tuple[Callback, ...] = (),
) -> TrainingRun:
    """Train by a recipe, as `convit train` does; raises what `run_recipe` raises.

    Args:
        recipe: a YAML file, or what `convit.training.recipe_io` made of one.
        data: folder or URL that the recipe's data paths start from.
        output: folder for checkpoints, logs and weights; None for runs/NAME, after the recipe.
        changes: "section.key=value" each, for a recipe that is read from a file.
        resume: goes on from the last checkpoint, or from the start where there is none yet.
        quiet: writes neither a line per epoch nor a bar to standard error.
        callbacks: more of Lightning's, called after the run's own and before checkpoints are written.
    """
    chosen = recipe if isinstance(recipe, Recipe) else read_recipe(recipe, changes)
    folder = Path(output or default_folder(chosen))
    run_recipe(chosen, data, folder, resume=resume, quiet=quiet, callbacks=callbacks)
    return TrainingRun(folder)


def run_recipe(
    recipe: Recipe,
    data: str | Path,
    output: str | Path,
    *,
    opened: Mapping[str, Samples] | None = None,
    head: FittedHead | None = None,
    resume: bool = False,
    quiet: bool = False,
    callbacks: tuple[Callback, ...] = (),
) -> Path:
    """Train by a recipe and write the weights, with arguments as for `train`.

    `opened` are data that are open already, by what the recipe calls them; `head` is what the head starts from, which
    the epochs have to beat where the best is written.

    Returns:
        The path of `weights.safetensors`, which describes itself.

    Raises:
        FileNotFoundError: data are absent, or there is no run to resume.
        FileExistsError: `output` holds a run, or weights, and `resume` is off.
        ImportError: a logger or a teacher needs a package that is not installed.
        ValueError: the recipe does not fit the data or the model, or the checkpoint is of another run.
        DivergedError: the loss became infinite or NaN.
        KeyboardInterrupt: Ctrl-C stopped it, after a checkpoint was written.
        SystemExit: SIGTERM or SIGHUP stopped it likewise; the code is 143 or 129.
        OSError: nothing can be written.
    """
    output = Path(output)
    checkpoint = choose_checkpoint(output, resume=resume, first=is_first_process())
    model = build_model(recipe)
    if head is not None:
        set_head(model, head.weight, head.bias)
    size = image_size(model, recipe)
    corrupt = CorruptImages(output / UNREADABLE, recipe.data.corrupt_limit, root=data)
    split = open_split(recipe, data, *size, corrupt, opened)
    _check_fit(recipe, model, split)
    own = identity(recipe, split)
    say = speaker(quiet=quiet)
    if opened is None:  # else whoever opened the data has told
        say(f"found {split}")
    if checkpoint is not None:
        for told in check_identity(checkpoint, own):
            say(told)
    _say_first(recipe, output, checkpoint, steps_per_epoch(recipe, split), say)
    precision = kept_precision(output) if recipe.run.precision == "auto" and checkpoint is not None else None
    if precision is None:
        precision, why = choose_precision(recipe, model, size)
        if recipe.run.precision != precision:
            say(f"training in {precision}: {why}")
    best = BestWeights(recipe.augment.evaluated_crop) if recipe.run.select == "best" else None
    if best is not None and head is not None:
        best.begin_with(model, head)
    own_recipe = recipe.model_copy(update={"run": recipe.run.model_copy(update={"precision": precision})})
    own_callbacks = _own_callbacks(own_recipe, output, best, quiet=quiet)
    if isinstance(model, ConViT) and recipe.run.attention_images:
        images = sample_images(split, recipe.run.attention_images)
        own_callbacks.append(AttentionLog(output / "attention.jsonl", images))
    with quiet_libraries(), thread_count(recipe.run.threads):
        trainer = build_trainer(own_recipe, output, [*own_callbacks, *callbacks, Checkpoints(output, own, recipe.run)])
        processes = trainer.num_devices * trainer.num_nodes
        trainer.accumulate_grad_batches = choose_parts(own_recipe, model, size, processes, trainer.strategy.root_device)
        if is_first_process():
            write_description(output, recipe, split, precision=precision, images=split.count(recipe.data.samples))
        _fit(trainer, _build_task(own_recipe, model, split), RecipeData(split, recipe), checkpoint, output)
    if is_first_process():
        _write_chosen(output, recipe, model, split, best)
    return output / WEIGHTS


def _say_first(recipe: Recipe, output: Path, checkpoint: Path | None, steps: int, say: Callable[[str], None]) -> None:
    """Say what a user may not expect: cool-down, or what has changed since the checkpoint and that it is the last."""
    epochs, cooldown = recipe.schedule.total_epochs, recipe.schedule.cooldown_epochs
    if checkpoint is None:
        if cooldown:
            say(f"training for {epochs} epochs, the last {cooldown} of them to cool down (schedule.cooldown_epochs)")
        return
    finished = steps_of(checkpoint) >= epochs * steps
    if is_first_process() and (changes := note_changes(output, recipe, checkpoint, finished=finished)):
        say(f"resuming with a changed recipe: {'; '.join(changes)}")
    if finished:
        say(f"all {epochs} epochs are done; there is nothing left to train")


def is_first_process() -> bool:
    """Whether this is the process that speaks and writes; where the recipe asks for several, the others only train."""
    return not getattr(rank_zero_only, "rank", 0)


def _fit(trainer: Trainer, task: ClassificationTask, data: RecipeData, checkpoint: Path | None, output: Path) -> None:
    """Train; where a signal ends it, say where and how to go on."""
    try:
        trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        return
    except RunStopped as stopped:
        number, code, step = stopped.signal, stopped.code, stopped.step
    except SystemExit as ended:
        if not trainer.interrupted:
            raise
        # a second Ctrl-C, at which Lightning ends the process, or a signal before the first step or after the last one
        last, code = last_checkpoint(output), ended.code
        number = next((each for each in STOPPING if code == 128 + each), signal.SIGINT)
        step = steps_of(last) if last else 0
    if is_first_process():
        where = f"its checkpoint of step {step}" if step else "no checkpoint yet"
        line = f"stopped, with {where}; go on with: {resume_command()}"
        if number == signal.SIGINT:
            raise KeyboardInterrupt(line) from None
        say(line)
    raise SystemExit(code) from None


def speaker(*, quiet: bool) -> Callable[[str], None]:
    """What writes a line to standard error; in the first process alone, and nothing where `quiet`."""
    shown = is_first_process() and not quiet
    return say if shown else lambda _: None


def _own_callbacks(recipe: Recipe, output: Path, best: BestWeights | None, *, quiet: bool) -> list[Callback]:
    """In the order in which Lightning must call them."""
    wanted = (
        best,
        MovingAverage(recipe.ema.decay) if recipe.ema else None,
        EpochLog(output, recipe, best, quiet=quiet),
        EpochBar() if is_terminal(sys.stderr) and not quiet else None,
    )
    return [each for each in wanted if each is not None]


def _write_chosen(output: Path, recipe: Recipe, model: nn.Module, split: Split, best: BestWeights | None) -> None:
    """Write the best weights, or those that training ended with, which are the averaged ones."""
    lines = read_lines(output / LOG)
    outcome = lines[-1] if lines else {}
    model.cpu()
    if best is not None and best.weights:
        model.load_state_dict(best.weights)
        outcome = next((line for line in lines if line["epoch"] == best.epoch), best.outcome)
    write_weights(output / WEIGHTS, model, recipe, split.classes, outcome)


def _build_task(recipe: Recipe, model: nn.Module, split: Split) -> ClassificationTask:
    train, wanted = split.train, recipe.mixing.class_weights
    labels: list[int] = []
    if wanted is not None and not isinstance(train, StreamSource):
        labels = [train.label(index) for index in range(len(train))]
    distillation = recipe.distillation
    task = ClassificationTask(
        model,
        recipe,
        steps_per_epoch(recipe, split),
        weigh_classes(wanted, labels, class_count(model)),
        Teacher(distillation, recipe.augment, class_count(model)) if distillation else None,
    )
    if recipe.run.compile:
        model.compile()
    return task


def _check_fit(recipe: Recipe, model: nn.Module, split: Split) -> None:
    """Refuse what would fail, or mean nothing, only after hours.

    Raises:
        ValueError: the model is not one for the data's classes or for the images of the last epochs, or something needs
            validation images and there are none.
    """
    classes = class_count(model)
    if split.classes is not None and len(split.classes) != classes:
        raise ValueError(
            f"the model has {classes} classes, but the data have {len(split.classes)}; set "
            f"model.options.num_classes={len(split.classes)}"
        )
    asked = {"run.select=best": recipe.run.select == "best", "schedule.patience": recipe.schedule.patience is not None}
    for name, wanted in asked.items():
        if wanted and split.validation is None:
            raise ValueError(f"{name} needs validation images; set data.validation or data.held_out")
    if recipe.mixing.class_weights is not None and isinstance(split.train, StreamSource):
        raise ValueError("mixing.class_weights must count the labels first; use data.reader=memory")
    if (last := recipe.schedule.final_img_size) is not None:
        if not isinstance(model, ConViT):
            raise ValueError(
                f"schedule.final_img_size is for ConViT, but the model is {recipe.model.architecture}; leave it out"
            )
        model.config.replace(img_size=last)  # refuses what patches do not tile
