"""A live bar for a training run: epoch, loss, images/s and time left, on standard error."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class RunBar(Callback):
    """One bar over the whole run; nothing where standard error is no terminal.

    Args:
        batch_size: images per batch in all processes together.
        quiet: shows nothing on a terminal either.
    """

    def __init__(self, batch_size: int, *, quiet: bool = False) -> None:
        self.batch_size = batch_size
        self.shown = not quiet and sys.stderr.isatty()
        self._progress: Progress | None = None
        self._began = 0.0
        self._batches = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, at the place where a resumed run goes on."""
        self._began = time.monotonic()
        if not (self.shown and trainer.is_global_zero):
            return
        columns = (
            TextColumn("{task.description}"), BarColumn(),
            TextColumn("{task.percentage:>5.1f}%"), TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False),
        )  # fmt: skip
        self._progress = Progress(
            *columns,
            console=Console(stderr=True),
            speed_estimate_period=120,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        total = int(trainer.num_training_batches) * (trainer.max_epochs or 1)
        done = (
            trainer.current_epoch * int(trainer.num_training_batches)
            + trainer.fit_loop.epoch_loop.batch_progress.current.completed
        )
        self._progress.add_task("training", total=total, completed=done, facts="")
        self._progress.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        self._batches += 1
        if self._progress is None:
            return
        speed = self._batches * self.batch_size / (time.monotonic() - self._began)
        loss = float(outputs["loss"]) if isinstance(outputs, dict) else float(outputs)
        facts = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  loss {loss:.3f}  {speed:,.0f} images/s"
        self._progress.update(self._progress.task_ids[0], advance=1, facts=facts)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Take the bar away, so that the message stands alone."""
        self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
