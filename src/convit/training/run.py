"""A whole training run: recipe in, weights out."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger, Logger

from convit.model import VARIANTS, ConViT
from convit.training.averaging import WeightAveraging
from convit.training.checkpoints import Checkpoints, last_checkpoint
from convit.training.loaders import RecipeData, Split, images_per_epoch, open_split
from convit.training.progress import RunBar
from convit.training.recipe import Recipe
from convit.training.record import EpochLog
from convit.training.task import ClassificationTask, total_epochs
from convit.training.writing import write_weights
from convit.weights.weight_sets import closest

PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def run_recipe(
    recipe: Recipe, data: str | Path, output: str | Path, *, resume: bool = False, quiet: bool = False
) -> Path:
    """Train by a recipe and write the weights.

    Args:
        recipe: the run.
        data: folder that the recipe's data paths start from.
        output: folder for checkpoints, logs and weights.
        resume: goes on from the last checkpoint in `output`.
        quiet: shows no bar.

    Returns:
        The path of `weights.safetensors`, which describes itself: `convit.create_model` and the command line take it as
        it is.

    Raises:
        FileNotFoundError: data are absent, or there is nothing to resume.
        FileExistsError: `output` holds a run already and `resume` is off.
        ValueError: the recipe does not fit the data or the model.
        DivergedError: the loss became infinite or no number.
        OSError: nothing can be written.
    """
    output = Path(output)
    checkpoint = _choose_checkpoint(recipe, output, resume)
    model = build_model(recipe)
    split = open_split(recipe, data, model.config.image_height, model.config.image_width)
    _check_classes(recipe, model, split)
    output.mkdir(parents=True, exist_ok=True)
    (output / "recipe.yaml").write_text(
        yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), encoding="utf-8"
    )
    (output / "environment.yaml").write_text(
        yaml.safe_dump(describe_environment(split), sort_keys=False), encoding="utf-8"
    )
    averaging = WeightAveraging(recipe.ema.decay) if recipe.ema else None
    log = EpochLog(output / "log.jsonl", recipe.run.batch_size // recipe.run.accumulate)
    with _calm():
        trainer = _build_trainer(
            recipe, output, [*([averaging] if averaging else []), log, RunBar(log.batch_size, quiet=quiet)]
        )
        task = ClassificationTask(model, recipe, _steps_per_epoch(recipe, split))
        if recipe.run.compile:
            model.compile()
        trainer.fit(task, datamodule=RecipeData(split, recipe), ckpt_path=checkpoint, weights_only=True)
    if averaging is not None:
        averaging.swap_in(task)
    weights = output / "weights.safetensors"
    if trainer.is_global_zero:
        write_weights(weights, model.cpu(), recipe, split.classes, log.latest)
    return weights


def build_model(recipe: Recipe) -> ConViT:
    """The untrained model of a recipe, seeded by the recipe's seed.

    Raises:
        ValueError: the architecture is unknown or an option is out of range.
    """
    name = recipe.model.architecture
    if name not in VARIANTS:
        raise ValueError(f"model.architecture is {name!r}, which is no variant; {closest(name, VARIANTS)}")
    seed_everything(recipe.seed, verbose=False)
    try:
        return ConViT(VARIANTS[name].config.replace(**recipe.model.options))
    except TypeError as error:
        raise ValueError(f"model.options: {error}") from error


def describe_environment(split: Split) -> dict[str, Any]:
    """Versions, machine and data of a run, for the file beside it."""
    packages: dict[str, str] = {}
    for name in ("convit", "torch", "torchvision", "lightning", "pillow", "numpy", "webdataset"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    )
    return {
        "python": platform.python_version(),
        "packages": packages,
        "device": device,
        "data_sha256": dict(split.files),
    }


def _build_trainer(recipe: Recipe, output: Path, callbacks: list[Any]) -> Trainer:
    run = recipe.run
    return Trainer(
        accelerator="auto",
        devices=run.devices,
        precision=PRECISIONS[run.precision],
        max_epochs=total_epochs(recipe),
        accumulate_grad_batches=run.accumulate,
        gradient_clip_val=recipe.optimiser.clip_norm,
        callbacks=[*callbacks, Checkpoints(output, run.checkpoint_minutes, run.keep)],
        logger=_loggers(output),
        log_every_n_steps=50,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=output,
    )


def _loggers(output: Path) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(output, name="csv", version="")]
    try:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(output, name="tensorboard", version=""))
    except ModuleNotFoundError:
        pass  # TensorBoard is an extra
    return loggers


def _steps_per_epoch(recipe: Recipe, split: Split) -> int:
    steps = images_per_epoch(recipe, split) // recipe.run.batch_size
    if not steps:
        raise ValueError(
            f"run.batch_size is {recipe.run.batch_size}, more than the {images_per_epoch(recipe, split)} "
            f"training images; lower it"
        )
    return steps


def _choose_checkpoint(recipe: Recipe, output: Path, resume: bool) -> Path | None:
    found = last_checkpoint(output)
    if not resume:
        if found is not None:
            raise FileExistsError(
                f"{output} holds a run already ({found.name}); go on with --resume, or choose another --output"
            )
        return None
    if found is None:
        raise FileNotFoundError(
            f"there is no checkpoint in {output}; start without --resume, or give the run's folder with --output"
        )
    used = Recipe.model_validate(yaml.safe_load((output / "recipe.yaml").read_text(encoding="utf-8")))
    if used.model != recipe.model:
        raise ValueError(
            f"{output} is a run of {used.model.architecture} with other options than this recipe's "
            f"{recipe.model.architecture}; choose its own recipe or another --output"
        )
    return found


def _check_classes(recipe: Recipe, model: ConViT, split: Split) -> None:
    if split.classes is not None and len(split.classes) != model.num_classes:
        raise ValueError(
            f"the model has {model.num_classes} classes, but the data have {len(split.classes)}; set "
            f"model.options.num_classes={len(split.classes)}"
        )


@contextmanager
def _calm() -> Generator[None]:
    """Without Lightning's advice on settings that are chosen here on purpose."""
    import logging

    loggers = [
        logging.getLogger(name)
        for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    ]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
