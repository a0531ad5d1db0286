"""The learning rate as a function of the step."""

from __future__ import annotations

import math

from convit.training.recipe import OptimizerRecipe, ScheduleRecipe

REFERENCE_BATCH = 512


def peak_rate(optimizer: OptimizerRecipe, batch_size: int) -> float:
    """The learning rate after warm-up: the recipe's, times batch/512 (paper Section 3)."""
    return optimizer.lr * batch_size / REFERENCE_BATCH


def total_epochs(schedule: ScheduleRecipe) -> int:
    """Epochs with cool-down."""
    return schedule.epochs + schedule.cooldown_epochs


def rate_at(step: int, steps_per_epoch: int, schedule: ScheduleRecipe, peak: float) -> float:
    """The learning rate of a step.

    Args:
        step: optimizer steps done before.
        steps_per_epoch: optimizer steps of an epoch.
        schedule: the way. Its `epochs` include warm-up; cool-down epochs follow them.
        peak: the rate after warm-up.

    Returns:
        Linear from `warmup_lr` to `peak`, then down to `min_lr`, which cool-down keeps: along half a cosine, or
        linearly over the last `decay_epochs`, where they are given.
    """
    warmup = schedule.warmup_epochs * steps_per_epoch
    total = schedule.epochs * steps_per_epoch
    if step < warmup:
        return schedule.warmup_lr + (peak - schedule.warmup_lr) * (step + 1) / warmup
    if step >= total:
        return schedule.min_lr
    if schedule.decay_epochs is not None:
        left = (total - step) / max(1, schedule.decay_epochs * steps_per_epoch)
        return schedule.min_lr + (peak - schedule.min_lr) * min(1.0, left)
    progress = (step - warmup) / max(1.0, total - warmup)
    return schedule.min_lr + 0.5 * (peak - schedule.min_lr) * (1 + math.cos(math.pi * progress))
