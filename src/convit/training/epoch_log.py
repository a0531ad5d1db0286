"""What a run says while it trains: epochs as JSON, text and CSV, what gates and heads do, and a bar on a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from torch import Tensor

from convit.analysis import gates, nonlocality
from convit.model import ConViT
from convit.output.console import say
from convit.output.files import write_file
from convit.output.text import add_line, csv_text, epoch_score, measured_alike, read_lines
from convit.training.final_weights import BestWeights
from convit.training.places import LOG
from convit.training.recipe import Recipe
from convit.training.task import ClassificationTask

BATCH_SIZE = 32  # images that are looked at together
DIGITS = 5


class EpochLog(Callback):
    """Writes each epoch's line to `log.jsonl`, `csv/metrics.csv` and standard error.

    A line holds losses, top-1 and the crop that it was measured with, learning rate, times, images/s, the share of time
    spent waiting for data, and an estimate of the time left. Lines of epochs that a resumed run does again are
    replaced, and the clock of an epoch that is resumed in its middle goes on where the checkpoint stopped it.

    Args:
        folder: the run's.
        recipe: the run's, in a precision that is known.
        best: what counts as the best epoch; None for the best of the log.
        quiet: writes nothing to standard error.
    """

    def __init__(self, folder: Path, recipe: Recipe, best: BestWeights | None, *, quiet: bool) -> None:
        self.settings, self.crop = recipe.run, recipe.augment.evaluated_crop
        self.path, self.table = folder / LOG, folder / "csv" / "metrics.csv" if "csv" in self.settings.loggers else None
        self.best, self.quiet = best, quiet
        self.trained = self.waited = 0.0  # seconds of the epoch so far
        self.batches = 0
        self.started = self.batch_ended = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks of an epoch that is resumed in its middle, and say where that is."""
        self._start_clocks()
        if trainer.global_step and not trainer.should_stop:
            self._say(trainer, f"resuming at step {trainer.global_step} in epoch {_epoch_of(trainer)}")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        self.trained, self.waited, self.batches = 0.0, 0.0, 0
        self._start_clocks()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """What passed since the last batch was waiting."""
        self.waited += time.monotonic() - self.batch_ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count."""
        self.batches += 1
        now = time.monotonic()
        self.trained += now - self.started
        self.started = self.batch_ended = now

    def on_train_epoch_end(self, trainer: Trainer, pl_module: ClassificationTask) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Write the epoch's line."""
        losses, pl_module.step_losses = pl_module.step_losses, []
        if not trainer.is_global_zero:
            return
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        seconds = self.trained + time.monotonic() - self.started
        steps = self.batches / trainer.accumulate_grad_batches
        line = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "train_loss": round(float(torch.stack(losses).mean()), 5) if losses else None,
            "val_loss": round(metrics["val_loss"], 5) if "val_loss" in metrics else None,
            "val_top1": round(metrics["val_top1"], 3) if "val_top1" in metrics else None,
            "crop": self.crop,
            "lr": max(group["lr"] for group in trainer.optimizers[0].param_groups),
            "precision": self.settings.precision,
            "step_seconds": round(self.trained / max(1, steps), 4),
            "images_per_second": round(steps * self.settings.batch_size / self.trained, 1) if self.trained else None,
            "data_wait_share": round(self.waited / self.trained, 4) if self.trained else None,
            "seconds": round(seconds, 3),
            "seconds_left": round(seconds * ((trainer.max_epochs or 0) - trainer.current_epoch - 1), 3),
        }
        lines = add_line(self.path, line)
        if self.table is not None:
            self.table.parent.mkdir(parents=True, exist_ok=True)
            rows = ([each.get(key) for key in line] for each in lines)
            write_file(self.table, csv_text(list(line), rows), overwrite=True)
        values = {key: float(value) for key, value in line.items() if isinstance(value, (int, float))}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        chosen = self.best.outcome if self.best is not None and self.best.weights else None
        best = chosen or max(measured_alike(lines), key=epoch_score)
        self._say(trainer, f"epoch {_epoch_of(trainer)}  {_in_words(line, best)}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say where early stopping ended the run, and why."""
        stopping = trainer.early_stopping_callback
        lines = read_lines(self.path) if trainer.is_global_zero else []
        done = lines[-1]["epoch"] if lines else trainer.max_epochs
        if stopping is None or stopping.wait_count < stopping.patience or done == trainer.max_epochs:
            return
        best, waited = max(measured_alike(lines), key=lambda line: line.get("val_top1") or 0.0), stopping.wait_count
        self._say(
            trainer,
            f"stopped early after epoch {done} of {trainer.max_epochs}: for {waited} epoch{'s' * (waited > 1)} no val "
            f"top-1 was above the {best['val_top1']:.2f} % of epoch {best['epoch']}",
        )

    def state_dict(self) -> dict[str, Any]:
        """The clocks of an epoch that has begun."""
        return {"trained": self.trained, "waited": self.waited, "batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.trained, self.waited, self.batches = (state_dict[key] for key in ("trained", "waited", "batches"))

    def _start_clocks(self) -> None:
        self.started = self.batch_ended = time.monotonic()

    def _say(self, trainer: Trainer, line: str) -> None:
        if trainer.is_global_zero and not self.quiet:
            say(line)


class EpochBar(RichProgressBar):
    """Lightning's bars of the epoch and its validation, on standard error; epochs are counted from 1 there too."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=4, console_kwargs={"stderr": True})

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """None: the epoch's line has them, and reading one would wait for the GPU at every step."""
        return {}

    def configure_columns(self, trainer: Trainer) -> list[Any]:
        """Without the speed, and with a bar that takes what is left of narrow terminals."""
        *columns, _ = super().configure_columns(trainer)
        columns[1].bar_width = None
        return columns

    def _add_task(self, total_batches: int | float, description: str, visible: bool = True) -> Any:
        del visible  # Lightning hides the bar of validation
        return super()._add_task(total_batches, description)

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(1.2), duration(40), duration(1000), duration(9000)
    ('1 second', '40 seconds', '17 minutes', '2.5 hours')
    """
    if seconds < 90:
        return f"{round(seconds)} seconds" if seconds >= 1.5 else "1 second"
    return f"{round(seconds / 60)} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.1f} hours"


def _epoch_of(trainer: Trainer) -> str:
    return f"{trainer.current_epoch + 1}/{trainer.max_epochs}"


def _in_words(line: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    parts = [f"train loss {line['train_loss']:.3f}"] if line["train_loss"] is not None else []
    if line["val_loss"] is not None:
        parts += [f"val loss {line['val_loss']:.3f}"]
        where = f"in epoch {best['epoch']}" if best["epoch"] else "before training"
        told = "best so far" if best["epoch"] == line["epoch"] else f"best {best['val_top1']:.2f} % {where}"
        parts += [f"val top-1 {line['val_top1']:.2f} % ({told})"]
    return "  ".join([*parts, f"{duration(line['seconds_left'])} left" if line["seconds_left"] else "done"])


class AttentionLog(Callback):
    """Writes gates and non-locality to `attention.jsonl`: before the first epoch (as epoch 0) and after each.

    A line is {"epoch": n, "gates": [[...], ...], "nonlocality": [[...], ...]} with one list per layer and one number
    per head: gates of the GPSA layers (left out where there is none), non-locality of every layer in patches. See
    `convit.analysis`. A resumed run replaces the lines of epochs that it does again.

    Measured are the weights being trained, not their average, by the first process alone; training is not touched.
    Stands before `Checkpoints`, so that a checkpoint's epoch has its line.

    Args:
        path: the file.
        images: normalized held-out images (images, channels, height, width) as the ConViT takes them, on any device.
    """

    def __init__(self, path: Path, images: Tensor) -> None:
        self.path, self.images = path, images

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the line of epoch 0, unless the run is resumed, which `on_fit_start` would not know yet."""
        if trainer.global_step == 0:
            self._write(trainer, pl_module, 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's line."""
        self._write(trainer, pl_module, trainer.current_epoch + 1)

    def _write(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        model: Any = pl_module.model
        if trainer.is_global_zero:
            add_line(self.path, {"epoch": epoch, **measure(model, self.images)})


def measure(model: ConViT, images: Tensor) -> dict[str, list[list[float]]]:
    """The gates ("gates", where there are any) and the non-locality ("nonlocality") of a model, rounded to 5 digits.

    Random numbers, modes and gradients stay as they are. `images` are normalized, on any device.

    Raises:
        ValueError: the patch size does not divide the images' height or width.
    """
    weight = next(model.parameters())
    measured: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[weight.device] if weight.device.type == "cuda" else []):
        if model.config.local_up_to_layer:
            measured["gates"] = gates(model).cpu().double().round(decimals=DIGITS).tolist()
        parts = [nonlocality(model, part.to(weight)).cpu().double() * len(part) for part in images.split(BATCH_SIZE)]
        measured["nonlocality"] = (torch.stack(parts).sum(dim=0) / len(images)).round(decimals=DIGITS).tolist()
    return measured
