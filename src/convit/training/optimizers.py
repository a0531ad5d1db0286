"""AdamW, or Muon for the matrices inside the blocks with AdamW for the rest; and the learning rate of each step."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from convit.training.recipe import OptimizerRecipe, ScheduleRecipe

REFERENCE_BATCH = 512


def build_optimizer(model: nn.Module, settings: OptimizerRecipe, lr: float, *, fused: bool = True) -> Optimizer:
    """The optimizer that a recipe names, over a model's parameters.

    Frozen ones take no part; `lr` is the peak learning rate of the head, and `fused` takes AdamW in one kernel.
    """
    groups = parameter_groups(model, settings, lr)
    matrices = [group for group in groups if group.pop("matrices") and settings.name == "muon"]
    others = [group for group in groups if not any(group is taken for taken in matrices)]
    adamw = AdamW(others, lr=lr, betas=settings.betas, eps=settings.eps, fused=fused) if others else None
    if not matrices:
        assert adamw is not None
        return adamw
    # Updates as large as AdamW's, so that a learning rate means the same for both (Liu et al. 2025, arXiv 2502.16982).
    muon = Muon(matrices, lr=lr, momentum=settings.momentum, adjust_lr_fn="match_rms_adamw")
    return JointOptimizer([muon, adamw]) if adamw is not None else muon


def parameter_groups(model: nn.Module, settings: OptimizerRecipe, lr: float) -> list[dict[str, Any]]:
    """Trained parameters, grouped by what the optimizer does with them.

    1-d parameters and those that the model's `no_weight_decay` names (position embedding, class token) take no decay.
    With `layer_decay` each block has its own learning rate.

    Returns:
        Groups with "params", "weight_decay", "lr" and "matrices", whether Muon may take them.
    """
    spared: set[str] = getattr(model, "no_weight_decay", set)()
    last = 1 + max((_layer(name, 0) for name, _ in model.named_parameters()), default=0)
    groups: dict[tuple[float, float, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = settings.weight_decay if parameter.ndim > 1 and name not in spared else 0.0
            rate = lr * settings.layer_decay ** (last - _layer(name, last))
            groups.setdefault((rate, decay, _is_block_matrix(name, parameter)), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay, "matrices": matrices}
        for (rate, decay, matrices), parameters in groups.items()
    ]


def _layer(name: str, last: int) -> int:
    """0 for the embeddings, 1 for the first block and so on, `last` for the norm and the head behind the blocks."""
    block = re.match(r"blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    return 0 if name.startswith(("patch_embed", "pos_embed", "cls_token")) else last


def _is_block_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon may take a parameter: a weight matrix inside a block, but for the position weights.

    Muon is made for matrices between hidden layers; embeddings and the head are better left to AdamW, and so are
    `pos_proj`'s rows, which are three separate quantities per head.
    """
    return parameter.ndim == 2 and name.startswith("blocks.") and "pos_proj" not in name


class JointOptimizer(Optimizer):
    """Optimizers over different parameters that share groups and states, so that all others see a single one."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = list(parts)
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of each part, after one evaluation of the closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        start = 0
        for part in self.parts:
            stop = start + len(part.param_groups)
            part.state, part.param_groups = self.state, self.param_groups[start:stop]
            start = stop


def peak_rate(optimizer: OptimizerRecipe, batch_size: int) -> float:
    """The learning rate after warm-up: the recipe's, times batch/512 (paper Section 3)."""
    return optimizer.lr * batch_size / REFERENCE_BATCH


def rate_at(step: int, steps_per_epoch: int, schedule: ScheduleRecipe, peak: float) -> float:
    """The learning rate of a step.

    `step` counts the optimizer's steps done before. Linear from `warmup_lr` to `peak`, then down to `min_lr`, which
    cool-down keeps: along half a cosine, or linearly over the last `decay_epochs`, where they are given, but from the
    end of the warm-up at the earliest. A warm-up longer than `epochs` ends with them.
    """
    warmup = schedule.warmup_epochs * steps_per_epoch
    total = schedule.epochs * steps_per_epoch
    if step >= total:
        return schedule.min_lr
    if step < warmup:
        return schedule.warmup_lr + (peak - schedule.warmup_lr) * (step + 1) / warmup
    falling = max(1.0, total - warmup)
    if schedule.decay_epochs is not None:
        left = (total - step) / max(1.0, min(falling, schedule.decay_epochs * steps_per_epoch))
        return schedule.min_lr + (peak - schedule.min_lr) * min(1.0, left)
    return schedule.min_lr + 0.5 * (peak - schedule.min_lr) * (1 + math.cos(math.pi * ((step - warmup) / falling)))
