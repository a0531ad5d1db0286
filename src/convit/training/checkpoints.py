"""Checkpoints that are whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

PATTERN = "step-*.ckpt"


def last_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint with the most steps in a run's folder, or None."""
    found = sorted(Path(folder, "checkpoints").glob(PATTERN))
    return found[-1] if found else None


class Checkpoints(Callback):
    """Writes a checkpoint every some minutes and after every epoch, and keeps the last few.

    Args:
        folder: the run's folder; checkpoints go into `checkpoints/` below it.
        minutes: time between two checkpoints within an epoch.
        keep: number that stays.
    """

    def __init__(self, folder: str | Path, minutes: float, keep: int) -> None:
        self.folder = Path(folder, "checkpoints")
        self.seconds, self.keep = 60 * minutes, keep
        self.written = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write when the time has come; the first process decides for all."""
        if batch_idx + 1 == trainer.num_training_batches:
            return  # the epoch's own checkpoint follows
        due = time.monotonic() - self.written >= self.seconds
        if trainer.strategy.broadcast(due) if trainer.world_size > 1 else due:
            self.write(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        self.write(trainer)

    def write(self, trainer: Trainer) -> None:
        """Write a checkpoint and remove those that are one too many.

        Raises:
            OSError: the disk is full or not writable; earlier checkpoints stay as they are.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        target = self.folder / f"step-{trainer.global_step:09d}.ckpt"
        temporary = target.with_suffix(".part")
        try:
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                temporary.replace(target)
        finally:
            if trainer.is_global_zero:
                temporary.unlink(missing_ok=True)
        if trainer.is_global_zero:
            for old in sorted(self.folder.glob(PATTERN))[: -self.keep]:
                old.unlink()
        self.written = time.monotonic()
