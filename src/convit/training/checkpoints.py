"""Checkpoints that are whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from convit.training.recipe import Recipe
from convit.training.sharding import local
from convit.training.task import ClassificationTask, DivergedError

PATTERN = "step-*.ckpt"
IDENTITY_KEY = "convit_run"


def last_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint with the most steps in a run's folder, or None."""
    found = sorted(Path(folder, "checkpoints").glob(PATTERN))
    return found[-1] if found else None


def identity(recipe: Recipe, files: Mapping[str, str]) -> dict[str, Any]:
    """What must be the same where a run is taken up: another model, seed, batch or data would be another run.

    Args:
        recipe: the run.
        files: fingerprints of its data.
    """
    whole = recipe.model_dump(mode="json")
    data = {key: value for key, value in whole["data"].items() if key not in ("workers", "corrupt_limit")}
    kept = {"name": recipe.name, "seed": recipe.seed, "model": whole["model"], "data": data}
    return {**kept, "augment": whole["augment"], "batch_size": recipe.run.batch_size, "files": dict(files)}


def check_identity(checkpoint: Path, expected: Mapping[str, Any]) -> None:
    """Refuse the checkpoint of another run.

    Raises:
        ValueError: it cannot be read, or it is of another run; the message names what differs.
    """
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True).get(IDENTITY_KEY, {})
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise ValueError(
            f"{checkpoint} cannot be read ({str(error).splitlines()[0]}); remove it, and --resume goes on from the one "
            f"before it"
        ) from error
    for key, value in expected.items():
        if found.get(key) != value:
            raise ValueError(
                f"{checkpoint} is of another run: its {key} is {_shorten(found.get(key))}, here it is "
                f"{_shorten(value)}; resume with its own recipe and data, or choose another --output"
            )


class Checkpoints(Callback):
    """Writes a checkpoint every some minutes or steps and after every epoch, and keeps the last few.

    Args:
        folder: the run's folder; checkpoints go into `checkpoints/` below it.
        identity: what `check_identity` compares when the run is taken up.
        minutes: time between two checkpoints within an epoch.
        steps: steps between them; None leaves it to the time.
        keep: number that stays.
    """

    def __init__(
        self, folder: str | Path, identity: Mapping[str, Any], *, minutes: float, steps: int | None, keep: int
    ) -> None:
        self.folder, self.identity = Path(folder, "checkpoints"), dict(identity)
        self.seconds, self.steps, self.keep = 60 * minutes, steps, keep
        self.written = time.monotonic()
        self.last_step = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write when it is time, between two steps; the first process decides for all."""
        if trainer.global_step == self.last_step:
            return  # in the middle of a step that is computed in parts
        self.last_step = trainer.global_step
        if batch_idx + 1 == trainer.num_training_batches:
            return  # the epoch's own checkpoint follows
        due = time.monotonic() - self.written >= self.seconds
        due = due or (self.steps is not None and trainer.global_step % self.steps == 0)
        if trainer.strategy.broadcast(due) if trainer.world_size > 1 else due:
            self.write(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        self.write(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say whose checkpoint it is."""
        checkpoint[IDENTITY_KEY] = self.identity

    def write(self, trainer: Trainer) -> None:
        """Write a checkpoint and remove those that are one too many.

        Raises:
            DivergedError: the loss or a weight is no number any more; earlier checkpoints stay as they are.
            OSError: the disk is full or not writable; earlier checkpoints stay as they are.
        """
        _check_finite(trainer)
        target = self.folder / f"step-{trainer.global_step:09d}.ckpt"
        temporary = target.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                _flush(temporary)
                temporary.replace(target)
        except (OSError, RuntimeError) as error:  # PyTorch's writer turns a full disk into a RuntimeError
            last = last_checkpoint(self.folder.parent)
            stays = f"{last.name} stays as it is" if last else "there was none before it"
            raise OSError(
                f"the checkpoint {target} could not be written ({str(error).splitlines()[0]}); {stays}; make room and "
                f"go on with --resume"
            ) from error
        finally:
            if trainer.is_global_zero:
                temporary.unlink(missing_ok=True)
        if trainer.is_global_zero:
            for old in sorted(self.folder.glob(PATTERN))[: -self.keep]:
                old.unlink()
        self.written = time.monotonic()


def _check_finite(trainer: Trainer) -> None:
    task = trainer.lightning_module
    assert isinstance(task, ClassificationTask)
    task.check_losses()
    bad = next(
        (name for name, weight in task.model.named_parameters() if not local(weight.detach()).isfinite().all()), None
    )
    if bad is not None:
        raise DivergedError(
            f"the weight {bad} is no number any more at step {trainer.global_step}; the last checkpoint is from before "
            f"it. Lower optimizer.lr or set optimizer.clip_norm=1, and start again"
        )


def _flush(file: Path) -> None:
    """See to it that the bytes are on the disk before the name is."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _shorten(value: Any) -> str:
    text = str(value)
    return text if len(text) < 80 else f"{text[:77]}…"
