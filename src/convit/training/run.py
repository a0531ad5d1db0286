"""A whole training run: recipe in, weights out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback
from torch import Tensor, nn

from convit.data.corrupt import CorruptImages
from convit.model import ConViT
from convit.output.json_lines import read_lines
from convit.training.accumulation import choose_parts
from convit.training.attention_log import AttentionLog
from convit.training.averaging import WeightAveraging
from convit.training.best_weights import BestWeights
from convit.training.checkpoints import Checkpoints, check_identity, identity, last_checkpoint
from convit.training.environment import describe_environment
from convit.training.loaders import RecipeData
from convit.training.models import build_model, class_count, image_size
from convit.training.progress import RunBar
from convit.training.recipe import Recipe
from convit.training.record import EpochLog
from convit.training.sharding import whole_state
from convit.training.splits import Split, StreamSource, images_per_epoch, open_split, sample_images
from convit.training.task import ClassificationTask, weigh_classes
from convit.training.teachers import Teacher
from convit.training.trainer import build_trainer, quiet_libraries, was_requeued
from convit.training.writing import write_weights

WEIGHTS = "weights.safetensors"


def run_recipe(
    recipe: Recipe,
    data: str | Path,
    output: str | Path,
    *,
    resume: bool = False,
    quiet: bool = False,
    callbacks: tuple[Callback, ...] = (),
) -> Path:
    """Train by a recipe and write the weights.

    Args:
        recipe: the run.
        data: folder that the recipe's data paths start from.
        output: folder for checkpoints, logs and weights.
        resume: goes on from the last checkpoint in `output`, or from the start where the run was cut off before its
            first one.
        quiet: shows no bar.
        callbacks: more of Lightning's callbacks, called after the run's own and before checkpoints are written.

    Returns:
        The path of `weights.safetensors`, which describes itself: `convit.create_model` and the command line take it as
        it is.

    Raises:
        FileNotFoundError: data are absent, or there is no run to resume.
        FileExistsError: `output` holds a run already and `resume` is off.
        ImportError: a logger or a teacher needs a package that is not installed.
        ValueError: the recipe does not fit the data or the model, or the checkpoint is of another run.
        DivergedError: the loss became infinite or no number.
        KeyboardInterrupt: it was interrupted; the last checkpoint stays.
        OSError: nothing can be written.
    """
    output = Path(output)
    checkpoint = _choose_checkpoint(output, resume=resume or was_requeued())
    model = build_model(recipe)
    size = image_size(model, recipe)
    split = open_split(recipe, data, *size, CorruptImages(output / "corrupt.jsonl", recipe.data.corrupt_limit))
    _check_fit(recipe, model, split)
    own = identity(recipe, split.files)
    if checkpoint is not None:
        check_identity(checkpoint, own)
    _write_description(output, recipe, split)
    run = _Run(recipe, output, own, quiet=quiet)
    if isinstance(model, ConViT) and recipe.run.attention_images:
        run.callbacks.append(
            AttentionLog(output / "attention.jsonl", sample_images(split, recipe.run.attention_images))
        )
    with quiet_libraries():
        trainer = build_trainer(recipe, output, [*run.callbacks, *callbacks, run.checkpoints])
        processes = trainer.num_devices * trainer.num_nodes
        trainer.accumulate_grad_batches = choose_parts(recipe, model, size, processes, trainer.strategy.root_device)
        task = _build_task(recipe, model, split)
        try:
            trainer.fit(task, datamodule=RecipeData(split, recipe), ckpt_path=checkpoint, weights_only=True)
        except SystemExit:
            if (
                trainer.interrupted and not trainer.received_sigterm
            ):  # Lightning ends the process after Ctrl-C; its caller may want to do more
                raise KeyboardInterrupt from None
            raise
    state = run.chosen_weights(task)
    if trainer.is_global_zero:
        finished = build_model(recipe) if recipe.run.strategy == "fsdp2" else model.cpu()
        finished.load_state_dict(state)
        write_weights(output / WEIGHTS, finished, recipe, split.classes, run.outcome())
    return output / WEIGHTS


class _Run:
    """The callbacks of a run, in the order in which Lightning must call them."""

    def __init__(self, recipe: Recipe, output: Path, identity: dict[str, Any], *, quiet: bool) -> None:
        settings = recipe.run
        self.best = BestWeights() if settings.select == "best" else None
        self.averaging = WeightAveraging(recipe.ema.decay) if recipe.ema else None
        self.log = EpochLog(output / "log.jsonl", settings.batch_size)
        self.callbacks: list[Callback] = [
            callback
            for callback in (self.best, self.averaging, self.log, RunBar(settings.batch_size, quiet=quiet))
            if callback is not None
        ]
        self.checkpoints = Checkpoints(
            output,
            identity,
            minutes=settings.checkpoint_minutes,
            steps=settings.checkpoint_steps,
            keep=settings.keep,
        )

    def chosen_weights(self, task: ClassificationTask) -> dict[str, Tensor]:
        """The weights that are written: the best, the averaged or the last ones."""
        if self.best is not None and self.best.weights:
            return self.best.weights
        if self.averaging is not None:
            self.averaging.swap_in(task)
        return whole_state(task.model)

    def outcome(self) -> dict[str, Any]:
        """The line of the log that belongs to the chosen weights."""
        epoch = self.best.epoch if self.best is not None and self.best.weights else None
        lines = read_lines(self.log.path)
        return next((line for line in lines if line["epoch"] == epoch), lines[-1] if lines else {})


def _build_task(recipe: Recipe, model: nn.Module, split: Split) -> ClassificationTask:
    train, wanted = split.train, recipe.mixing.class_weights
    labels: list[int] = []
    if wanted is not None and not isinstance(train, StreamSource):
        labels = [train.label(index) for index in range(len(train))]
    distillation = recipe.distillation
    task = ClassificationTask(
        model,
        recipe,
        _steps_per_epoch(recipe, split),
        weigh_classes(wanted, labels, class_count(model)),
        Teacher(distillation, recipe.augment, class_count(model)) if distillation else None,
    )
    if recipe.run.activation_checkpointing:
        enable: Callable[[], None] = getattr(model, "set_grad_checkpointing")  # noqa: B009  # ours and timm's models
        enable()
    if recipe.run.compile:
        model.compile()
    return task


@rank_zero_only
def _write_description(output: Path, recipe: Recipe, split: Split) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for name, content in (("recipe", recipe.model_dump(mode="json")), ("environment", describe_environment(split))):
        (output / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _steps_per_epoch(recipe: Recipe, split: Split) -> int:
    steps = images_per_epoch(recipe, split) // recipe.run.batch_size
    if not steps:
        raise ValueError(
            f"run.batch_size is {recipe.run.batch_size}, more than the {images_per_epoch(recipe, split)} "
            f"training images; lower it"
        )
    return steps


def _choose_checkpoint(output: Path, *, resume: bool) -> Path | None:
    found = last_checkpoint(output)
    if resume and not (output / "recipe.yaml").is_file():
        raise FileNotFoundError(
            f"there is no run in {output}; start without --resume, or give the run's folder with --output"
        )
    if not resume and found is not None:
        raise FileExistsError(
            f"{output} holds a run already ({found.name}); go on with --resume, or choose another --output"
        )
    return found


def _check_fit(recipe: Recipe, model: nn.Module, split: Split) -> None:
    """Refuse what would fail, or mean nothing, only after hours.

    Raises:
        ValueError: the model's classes are not the data's, or something needs validation images and there are none.
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
    if recipe.schedule.final_img_size is not None and not isinstance(model, ConViT):
        raise ValueError(
            f"schedule.final_img_size is for ConViT, but the model is {recipe.model.architecture}; leave it out"
        )
