"""What Lightning trains: a model with its loss, optimizer and schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from convit.data.sampling import StepSharding, augmentation_seed
from convit.model.layers import DropPath
from convit.optimization.precision import widest_float
from convit.training.mixing import mix, soft_targets
from convit.training.models import Teacher, class_count
from convit.training.optimizers import build_optimizer, peak_rate, rate_at
from convit.training.recipe import Recipe
from convit.training.trainer import sharding_of

Batch = tuple[Tensor, Tensor]
CHECK_EVERY = 20  # steps between looks at the loss on a GPU, where each look waits for all that was queued


class DivergedError(FloatingPointError):
    """The loss or a weight is no longer finite."""


class ClassificationTask(LightningModule):
    """A model under training by a recipe.

    All random numbers of a step are drawn for the whole step and seeded by (seed, step). So a resumed run draws the
    same ones, and so do several processes that share the step. (Dropout is the exception: its masks repeat in each
    process. The paper's recipes use drop path alone.)

    Attributes:
        class_weights: weight of each class in the loss; None weighs all images alike.
        sharding: how a step's images are shared out; known when training starts.
        step_losses: of the epoch's steps so far.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        steps_per_epoch: int,
        class_weights: Float[Tensor, " classes"] | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.classes = class_count(model)
        self.steps_per_epoch = steps_per_epoch
        self.sharding = StepSharding(recipe.run.batch_size)
        self.teacher = teacher
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.step_losses: list[Tensor] = []
        self.own_groups: list[dict[str, Any]] = []
        self.unchecked: list[tuple[int, Tensor]] = []
        self.validation_sums: Tensor | None = None

    class_weights: Tensor | None

    def configure_optimizers(self) -> Any:
        """The recipe's optimizer and the learning rate by step."""
        settings, peak = self.recipe.optimizer, peak_rate(self.recipe.optimizer, self.recipe.run.batch_size)
        # Fused AdamW takes fp16's loss scale out inside its step, so gradients cannot be clipped before.
        scaled = self.recipe.run.precision == "fp16" and settings.clip_norm is not None
        optimizer = build_optimizer(self.model, settings, peak, fused=not scaled)
        factor = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate_at(step, self.steps_per_epoch, self.recipe.schedule, peak) / peak
        )
        self.own_groups = [{key: group[key] for key in group if key != "params"} for group in optimizer.param_groups]
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": factor, "interval": "step"}}

    def on_train_start(self) -> None:
        """Train by the recipe's settings, also where a checkpoint brought those of an earlier recipe."""
        scheduler: Any = self.trainer.lr_scheduler_configs[0].scheduler
        scheduler.base_lrs = [group["initial_lr"] for group in self.own_groups]
        factor = scheduler.lr_lambdas[0](scheduler.last_epoch)
        for group, own in zip(scheduler.optimizer.param_groups, self.own_groups, strict=True):
            group.update(own, lr=own["initial_lr"] * factor)
        self.step_losses = [loss.to(self.device) for loss in self.step_losses]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the losses of an epoch that has begun."""
        checkpoint["step_losses"] = torch.stack(self.step_losses).tolist() if self.step_losses else []

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what `on_save_checkpoint` kept; without an average, go on from the trained weights."""
        self.step_losses = list(torch.tensor(checkpoint.get("step_losses", [])))
        if self.recipe.ema is None:
            checkpoint["state_dict"] = checkpoint.get("current_model_state", checkpoint["state_dict"])

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip; Lightning would refuse it for fused optimizers in bf16 too, which has no loss scale."""
        if gradient_clip_val is None:
            return
        if self.recipe.run.precision == "bf16":
            nn.utils.clip_grad_norm_(self.model.parameters(), gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_fit_start(self) -> None:
        """Learn how a step's images are shared out, and bring the teacher along."""
        self.sharding = sharding_of(self.trainer, self.recipe)
        if self.teacher is not None:
            self.teacher.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch.

        Raises:
            DivergedError: the loss is infinite or NaN; the message names the step.
        """
        images, labels = batch
        seed = self._draw_for_the_step(batch_idx % self.sharding.parts, images.device)
        mixing = self.recipe.mixing
        targets = soft_targets(labels, self.classes, mixing.label_smoothing)
        if self.current_epoch < self.recipe.schedule.total_epochs - mixing.off_epochs:
            images, targets = mix(images, targets, mixing, np.random.default_rng(seed))
        loss = self._loss(self.model(images).float(), targets, images)
        self._watch(loss.detach())
        return loss

    def _draw_for_the_step(self, part: int, device: torch.device) -> int:
        """Seed a step's random numbers and tell drop path which of the step's images these are."""
        seed = augmentation_seed(self.recipe.seed, self.global_step)
        torch.manual_seed(seed)
        if self.sharding.parts * self.sharding.world_size > 1:
            positions = self.sharding.positions(part).to(device)
            for module in self.model.modules():
                if isinstance(module, DropPath):
                    module.positions, module.whole = positions, self.sharding.step_size
        return seed

    def _loss(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        loss = F.cross_entropy(logits, targets, weight=self.class_weights)
        if self.teacher is None:
            return loss
        share = self.teacher.recipe.weight
        return (1 - share) * loss + share * self.teacher.loss(logits, images)

    def _watch(self, loss: Tensor) -> None:
        """Keep a loss for the log, and stop where it is not finite."""
        if self.trainer.world_size > 1:  # so that all processes stop together
            loss = self.trainer.strategy.reduce(loss, reduce_op="mean")
        self.step_losses.append(loss)
        self.log("loss", loss, on_step=True, on_epoch=False)
        self.unchecked.append((self.global_step, loss))
        if self.device.type == "cpu" or len(self.unchecked) >= CHECK_EVERY:
            self.check_losses()

    def check_losses(self) -> None:
        """Look at the losses since the last look.

        Raises:
            DivergedError: one of them is infinite or NaN.
        """
        unchecked, self.unchecked = self.unchecked, []
        if not unchecked or torch.stack([loss for _, loss in unchecked]).isfinite().all():
            return
        step, value = next((step, loss.item()) for step, loss in unchecked if not loss.isfinite())
        raise DivergedError(
            f"the loss is {value} at step {step} (epoch {self.current_epoch + 1}); the last checkpoint is from before "
            f"it. Lower optimizer.lr, set optimizer.clip_norm=1, or use run.precision=fp32, and start again, or go on "
            f"from the checkpoint with --resume"
        )

    def on_validation_epoch_start(self) -> None:
        """Start counting."""
        self.validation_sums = torch.zeros(3, dtype=widest_float(self.device), device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count loss, hits and images."""
        images, labels = batch
        logits = self.model(images).float()
        loss = F.cross_entropy(logits, labels, reduction="sum")
        hits = (logits.argmax(dim=1) == labels).sum()
        assert self.validation_sums is not None
        counted = torch.stack([loss, hits, torch.tensor(len(labels), device=self.device)])
        self.validation_sums += counted.to(self.validation_sums)

    def on_validation_epoch_end(self) -> None:
        """Loss and top-1 (percent) over all processes."""
        assert self.validation_sums is not None
        loss, hits, count = (
            float(value) for value in self.trainer.strategy.reduce(self.validation_sums, reduce_op="sum")
        )
        # every process holds the sums of all
        self.log_dict({"val_loss": loss / count, "val_top1": 100 * hits / count}, sync_dist=False)


def weigh_classes(wanted: str | Sequence[float] | None, labels: Sequence[int], classes: int) -> Tensor | None:
    """Weights of classes in the loss, with mean 1 over the images.

    "balanced" asks for the inverse of each class's number of images.

    Raises:
        ValueError: there are not as many weights as classes.

    >>> weigh_classes("balanced", [0, 0, 0, 1], 2)
    tensor([0.6667, 2.0000])
    """
    if wanted is None:
        return None
    counts = torch.bincount(torch.as_tensor(labels), minlength=classes).float()
    weights = 1 / counts.clamp(min=1) if isinstance(wanted, str) else torch.tensor(list(wanted))
    if len(weights) != classes:
        raise ValueError(f"mixing.class_weights has {len(weights)} weights, but there are {classes} classes")
    return weights * counts.sum() / (weights * counts).sum()
