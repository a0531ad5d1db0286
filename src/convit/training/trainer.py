"""Lightning's trainer as a recipe wants it: processes, precision, loggers, and no advice about what is on purpose."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import Logger

from convit.training.recipe import Recipe
from convit.training.schedule import total_epochs

LIGHTNING_PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def build_trainer(recipe: Recipe, output: Path, callbacks: Sequence[Callback]) -> Trainer:
    """The trainer of a run.

    Several nodes are started by torchrun or SLURM, which Lightning recognizes; under SLURM a run that is told to make
    way (SIGUSR1) saves itself and queues again.

    Args:
        recipe: the run, with a precision other than "auto".
        output: its folder.
        callbacks: in the order in which they are called.

    Raises:
        ImportError: a logger that the recipe asks for is not installed.
    """
    run, schedule = recipe.run, recipe.schedule
    stopping = [] if schedule.patience is None else [EarlyStopping("val_top1", mode="max", patience=schedule.patience)]
    return Trainer(
        accelerator="auto",
        devices=run.devices,
        num_nodes=run.nodes,
        strategy=run.strategy,
        precision=LIGHTNING_PRECISIONS[run.precision],
        max_epochs=total_epochs(schedule),
        gradient_clip_val=recipe.optimizer.clip_norm,
        callbacks=[*stopping, *callbacks],
        logger=choose_loggers(recipe, output),
        log_every_n_steps=50,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=output,
    )


def choose_loggers(recipe: Recipe, output: Path) -> list[Logger]:
    """The loggers of a run but the CSV, which is the log's own; TensorBoard is left out where it is not installed.

    Raises:
        ImportError: W&B is asked for and not installed.
    """
    loggers: list[Logger] = []
    if "tensorboard" in recipe.run.loggers:
        try:
            from lightning.pytorch.loggers import TensorBoardLogger

            loggers.append(TensorBoardLogger(output, name="tensorboard", version=""))
        except ModuleNotFoundError:
            pass  # TensorBoard is an extra
    if "wandb" in recipe.run.loggers:
        from lightning.pytorch.loggers import WandbLogger

        try:
            loggers.append(WandbLogger(name=recipe.name, project="convit", save_dir=output))
        except ModuleNotFoundError as error:
            raise ImportError(
                "run.loggers names wandb, which is not installed; install it with: pip install wandb"
            ) from error
    return loggers


def was_requeued() -> bool:
    """Whether SLURM started this job again, so that it must go on by itself."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


@contextmanager
def quiet_libraries() -> Generator[None]:
    """Keep back Lightning's advice on settings that are chosen here on purpose."""
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
