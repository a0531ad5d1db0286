"""What the gates and heads do while a model trains: one line of JSON per epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from convit.analysis import gates, nonlocality
from convit.model import ConViT
from convit.output.json_lines import add_line

MOST_IMAGES = 128
BATCH_SIZE = 32
DIGITS = 5


class AttentionLog(Callback):
    """Writes gates and non-locality to `attention.jsonl`: before the first epoch (as epoch 0) and after each.

    A line is {"epoch": n, "gates": [[...], ...], "nonlocality": [[...], ...]} with one list per layer and one number
    per head: gates of the GPSA layers (left out where there is none), non-locality of every layer in patches. See
    `convit.analysis`. A resumed run replaces the lines of epochs that it does again.

    The weights are those being trained, not their average, also where a `WeightAveraging` runs beside. Training is not
    touched: random numbers, modes and gradients stay as they are. The first process measures alone. Nothing is written
    for models other than ConViT.

    Stands before the callback that writes checkpoints, so that a checkpoint's epoch has its line.

    Args:
        path: the file.
        images: normalized held-out images (images, channels, height, width) as the model takes them, on any device;
            the first 128 are used.

    Raises:
        ValueError: there is no image.
    """

    def __init__(self, path: str | Path, images: Tensor) -> None:
        if images.ndim != 4 or not len(images):
            raise ValueError(
                f"images has the shape {tuple(images.shape)}, but must be (images, channels, height, width) with at "
                "least one image"
            )
        self.path = Path(path)
        self.images = images[:MOST_IMAGES]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the line of epoch 0, unless the run goes on from a checkpoint.

        Not in `on_fit_start`, where Lightning does not know yet how far a resumed run had come.
        """
        if trainer.global_step == 0:
            self._write(trainer, pl_module, 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's line."""
        self._write(trainer, pl_module, trainer.current_epoch + 1)

    def _write(self, trainer: Trainer, pl_module: LightningModule, epoch: int) -> None:
        model = getattr(pl_module, "model", None)
        if trainer.is_global_zero and isinstance(model, ConViT):
            add_line(self.path, {"epoch": epoch, **measure(model, self.images)})


def measure(model: ConViT, images: Tensor) -> dict[str, list[list[float]]]:
    """The gates ("gates", where there are any) and the non-locality ("nonlocality") of a model, rounded to 5 digits.

    The process's random numbers and the model's modes and gradients stay as they are.

    Args:
        model: any ConViT.
        images: normalized images, on any device; taken 32 at a time.

    Raises:
        ValueError: the patch size does not divide the images' height or width.
    """
    weight = model.norm.weight
    measured: dict[str, list[list[float]]] = {}
    with torch.random.fork_rng(devices=[weight.device] if weight.device.type == "cuda" else []):
        if model.config.local_up_to_layer:
            measured["gates"] = _rounded(gates(model))
        distance = torch.zeros(())
        for batch in images.split(BATCH_SIZE):
            measured_here = nonlocality(model, batch.to(weight)).double().cpu()
            distance = distance + measured_here * (len(batch) / len(images))
        measured["nonlocality"] = _rounded(distance)
    return measured


def _rounded(rows: Tensor) -> list[list[float]]:
    values: Any = rows.double().tolist()
    return [[round(value, DIGITS) for value in row] for row in values]
