"""What Lightning trains: a ConViT with its loss, optimiser and schedule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor

from convit.data.sampling import augmentation_seed
from convit.model import ConViT
from convit.training.mixing import mix, soft_targets
from convit.training.recipe import Recipe
from convit.training.schedule import peak_rate, rate_at

Batch = tuple[Tensor, Tensor]


class DivergedError(RuntimeError):
    """The loss is no longer a number."""


class ClassificationTask(LightningModule):
    """A model under training by a recipe.

    All random numbers of a step are seeded by (seed, step, process), so that a resumed run draws the same ones.

    Args:
        model: the network.
        recipe: the run.
        steps_per_epoch: optimiser steps of an epoch.
    """

    def __init__(self, model: ConViT, recipe: Recipe, steps_per_epoch: int) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch
        self.step_losses: list[Tensor] = []
        self.validation_sums: Tensor | None = None

    def configure_optimizers(self) -> Any:
        """AdamW in two groups and the learning rate by step."""
        settings, peak = self.recipe.optimiser, peak_rate(self.recipe.optimiser, self.recipe.run.batch_size)
        optimiser = torch.optim.AdamW(
            parameter_groups(self.model, settings.weight_decay),
            lr=peak,
            betas=settings.betas,
            eps=settings.eps,
            fused=True,
        )
        factor = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: rate_at(step, self.steps_per_epoch, self.recipe.schedule, peak) / peak
        )
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": factor, "interval": "step"}}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch.

        Raises:
            DivergedError: the loss is infinite or no number; the message names the step.
        """
        images, labels = batch
        step = self.current_epoch * int(self.trainer.num_training_batches) + batch_idx
        seed = augmentation_seed(self.recipe.seed, step, self.global_rank)
        torch.manual_seed(seed)
        mixing = self.recipe.mixing
        targets = soft_targets(labels, self.model.num_classes, mixing.label_smoothing)
        if self.current_epoch < total_epochs(self.recipe) - mixing.off_epochs:
            images, targets = mix(images, targets, mixing, np.random.default_rng(seed))
        loss = F.cross_entropy(self.model(images).float(), targets)
        self.step_losses.append(loss.detach())
        self.log("loss", loss.detach(), on_step=True, on_epoch=False)
        if not math.isfinite(loss.item()):
            raise DivergedError(
                f"the loss is {loss.item()} at step {self.global_step} (epoch {self.current_epoch + 1}); the "
                f"last checkpoint is from before it. "
                "Lower optimiser.lr, set optimiser.clip_norm=1, or use run.precision=fp32, and go on with --resume"
            )
        return loss

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        self.validation_sums = torch.zeros(3, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count loss, hits and images of held-out training images."""
        images, labels = batch
        logits = self.model(images).float()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        hits = (logits.argmax(dim=1) == labels).sum()
        assert self.validation_sums is not None
        self.validation_sums += torch.stack([loss, hits, torch.tensor(len(labels), device=self.device)]).double()

    def on_validation_epoch_end(self) -> None:
        """Loss and top-1 (percent) over all processes."""
        assert self.validation_sums is not None
        loss, hits, count = (
            float(value) for value in self.trainer.strategy.reduce(self.validation_sums, reduce_op="sum")
        )
        self.log_dict({"val_loss": loss / count, "val_top1": 100 * hits / count}, rank_zero_only=True)


def total_epochs(recipe: Recipe) -> int:
    """Epochs with cool-down."""
    return recipe.schedule.epochs + recipe.schedule.cooldown_epochs


def parameter_groups(model: ConViT, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with and without weight decay: 1-d ones, position embedding and class token take none."""
    spared = model.no_weight_decay()
    decayed = {name for name, parameter in model.named_parameters() if parameter.ndim > 1 and name not in spared}
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for name, parameter in named if name in decayed], "weight_decay": weight_decay},
        {"params": [parameter for name, parameter in named if name not in decayed], "weight_decay": 0.0},
    ]
