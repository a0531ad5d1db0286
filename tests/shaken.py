"""Weights that make comparisons mean something: as spread out as trained ones, yet made on the spot.

A freshly initialized ConViT has logits near 0, flat attention and equal gates, so that most mistakes cancel. `shake`
moves every parameter away from its initial value until logits have a standard deviation of at least 1 and gates are
spread over [0.02, 0.98]. It needs timm's parameter names only, so it serves timm's model and ours alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from convit.benchmark.comparing import relative_error as relative_error

GATE_RANGE = (0.02, 0.98)


@torch.no_grad()
def shake(model: nn.Module, seed: int = 0) -> None:
    """Redraw every parameter of a ConViT in place.

    Args:
        model: timm's or ours, in fp32 or fp64.
        seed: of the draw; the same seed and variant give the same weights.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.copy_(_draw(name, parameter, generator).to(parameter))


def _draw(name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    """A new value for one parameter, by its role."""
    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    if name.endswith("gating_param"):
        low, high = (math.log(share / (1 - share)) for share in GATE_RANGE)
        return low + (high - low) * torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
    if "norm" in name:
        return 0.1 * noise + (1.0 if name.endswith("weight") else 0.0)
    if name.endswith("pos_proj.weight"):
        # keep the initial places and narrowness, and blur them
        return parameter.double() + 0.3 * noise
    if name.endswith(("cls_token", "pos_embed")):
        return 0.5 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    fan_in = parameter[0].numel()
    return 1.5 * noise / fan_in**0.5


def root_mean_square_error(values: Tensor, reference: Tensor) -> float:
    """Root of the mean squared difference over that of the reference, both taken in fp64."""
    values, reference = values.detach().double(), reference.detach().double()
    return float((values - reference).square().mean().sqrt() / reference.square().mean().sqrt())
