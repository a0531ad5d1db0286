"""The learning rate that suits these images: a few steps from each of three rates, side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from copy import deepcopy
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convit.data.datasets import ImageDataset
from convit.data.sampling import augmentation_seed
from convit.finetuning.plan import Plan
from convit.finetuning.settings import choose_rate
from convit.optimization.precision import computed_in, dtype_of
from convit.training.final_weights import FittedHead
from convit.training.models import build_model, set_head
from convit.training.optimizers import build_optimizer, peak_rate
from convit.training.recipe import Recipe
from convit.training.splits import Split, steps_per_epoch

FACTORS = (1 / 3, 1.0, 3.0)  # of the rule of thumb
SHARE, LEAST_STEPS, MOST_STEPS = 1 / 60, 4, 16  # of the run's steps, for each rate
MOST_BATCH, MOST_JUDGED = 64, 128  # images per step; images that judge


def choose_by_trying(plan: Plan, head: FittedHead | None, device: torch.device) -> Plan:
    """The plan with the learning rate after which a short training left the lowest loss on images that it did not see.

    Those are training images; the ones that validate stay unseen. Runs too short to spare some steps, and rates that
    the user chose, stay as they are. The result is part of the recipe, so that a resumed run goes on with it.
    """
    recipe = plan.recipe
    if plan.is_asked("optimizer.lr") or not plan.may_measure:
        return plan
    model = build_model(recipe)
    if head is not None:
        set_head(model, head.weight, head.bias)
    split = plan.split(model)
    steps = min(MOST_STEPS, int(SHARE * recipe.schedule.total_epochs * steps_per_epoch(recipe, split)))
    if steps < LEAST_STEPS or not isinstance(split.train, ImageDataset):
        return plan
    losses = _try(model.to(device), recipe, split, split.train, steps)
    if not losses:
        return plan
    batch, frozen = recipe.run.batch_size, "backbone" in recipe.model.freeze
    peaks = (peak_rate(recipe.optimizer, batch) * factor for factor in FACTORS)
    told = ", ".join(f"{loss:.3f} at {peak:.2g}" for loss, peak in zip(losses, peaks, strict=True))
    measured = f"measured: {steps} steps leave a loss on other training images of {told}"
    best = FACTORS[min(range(len(losses)), key=losses.__getitem__)]
    return plan.decide(*choose_rate(batch, frozen=frozen, factor=best, measured=measured))


def _try(model: nn.Module, recipe: Recipe, split: Split, train: ImageDataset, steps: int) -> list[float]:
    """The loss that each rate leaves, infinite where it diverges; none where no image is there to judge by."""
    order = np.random.default_rng(recipe.seed).permutation(len(train)).tolist()
    judged, batch = order[: min(MOST_JUDGED, len(order) // 5)], min(recipe.run.batch_size, MOST_BATCH)
    learned = islice(cycle(order[len(judged) :]), 2 * steps * batch)  # some may be unreadable
    seeded = _readable(train, ((index, augmentation_seed(recipe.seed, place)) for place, index in enumerate(learned)))
    plain = ImageDataset(train.samples, split.transforms[1], indices=[train.indices[index] for index in judged])
    judges, device = list(_readable(plain, range(len(plain)))), next(model.parameters()).device
    if not judges:
        return []
    half = computed_in(recipe.run.precision, device) == "bf16"
    models = [deepcopy(model).train() for _ in FACTORS]
    peak = peak_rate(recipe.optimizer, recipe.run.batch_size) * math.sqrt(batch / recipe.run.batch_size)
    optimizers = [
        build_optimizer(each, recipe.optimizer, factor * peak) for each, factor in zip(models, FACTORS, strict=True)
    ]
    full = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]

    def loss_of(model: nn.Module, images: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        with torch.autocast(device.type, dtype_of("bf16"), enabled=half):
            logits = model(images)
        return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for step in range(steps):
            pairs = list(islice(seeded, batch))
            if not pairs:
                break
            images, labels = _stack(pairs, device)
            for each, optimizer, rates in zip(models, optimizers, full, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * min(1.0, (step + 1) / (steps / 2))
                torch.manual_seed(augmentation_seed(recipe.seed, step))
                loss_of(each, images, labels, recipe.mixing.label_smoothing).backward()
                if recipe.optimizer.clip_norm is not None:
                    nn.utils.clip_grad_norm_(each.parameters(), recipe.optimizer.clip_norm)
                optimizer.step()
                optimizer.zero_grad()
    images, labels = _stack(judges, device)
    with torch.no_grad():
        found = [loss_of(each.eval(), images, labels).item() for each in models]
    return [loss if math.isfinite(loss) else math.inf for loss in found]


def _readable(dataset: ImageDataset, keys: Iterable[Any]) -> Iterator[tuple[Tensor, int]]:
    for key in keys:
        try:
            pair = dataset[key]
        except ValueError:  # counted in training
            continue
        yield pair


def _stack(pairs: list[tuple[Tensor, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    images, labels = zip(*pairs, strict=True)
    return torch.stack(images).to(device), torch.tensor(labels, device=device)
