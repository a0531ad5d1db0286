"""What a run leaves to read: one line of JSON per epoch, and how fast it went."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from convit.output.json_lines import add_line
from convit.training.task import ClassificationTask


class EpochLog(Callback):
    """Appends to `log.jsonl`: epoch, losses, top-1, learning rate, images/s, share of the time spent waiting for data.

    Lines of epochs that a resumed run does again are replaced.

    Args:
        path: the file.
        batch_size: images per batch in all processes together.

    Attributes:
        latest: the last line, as a dict.
    """

    def __init__(self, path: str | Path, batch_size: int) -> None:
        self.path, self.batch_size = Path(path), batch_size
        self.latest: dict[str, Any] = {}
        self.waited = self.started = self.batch_ended = 0.0
        self.batches = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: ClassificationTask) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Start the clocks."""
        self.started = self.batch_ended = time.monotonic()
        self.waited, self.batches = 0.0, 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """What passed since the last batch was waiting."""
        self.waited += time.monotonic() - self.batch_ended

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count."""
        self.batches += 1
        self.batch_ended = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: ClassificationTask) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Write the epoch's line."""
        losses, pl_module.step_losses = pl_module.step_losses, []
        if not trainer.is_global_zero:
            return
        seconds = self.batch_ended - self.started
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.latest = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "train_loss": round(float(torch.stack(losses).mean()), 5) if losses else None,
            "val_loss": round(metrics["val_loss"], 5) if "val_loss" in metrics else None,
            "val_top1": round(metrics["val_top1"], 3) if "val_top1" in metrics else None,
            "lr": max(group["lr"] for group in trainer.optimizers[0].param_groups),
            "images_per_second": round(self.batches * self.batch_size / seconds, 1) if seconds else None,
            "data_wait_share": round(self.waited / seconds, 4) if seconds else None,
            "seconds": round(time.monotonic() - self.started, 1),
        }
        add_line(self.path, self.latest)
        if trainer.logger is not None:
            values = {key: float(value) for key, value in self.latest.items() if isinstance(value, (int, float))}
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step)
