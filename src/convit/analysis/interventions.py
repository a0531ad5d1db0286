"""The paper's two changes to a trained model, for as long as a `with` block lasts."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn

from convit.analysis.gating import _gated_layers
from convit.model import ConViT

# the sigmoid of ±1000 is exactly 0 or 1 in fp64, fp32, bf16 and fp16
SATURATED = 1000.0


@contextmanager
def masked_position_embedding(model: ConViT) -> Generator[None]:
    """Take the absolute position embedding away: zeros stand in for it; the gated layers keep their own positions.

    Source: ConViT (arXiv 2103.10697), Tab. 5.

    Args:
        model: a ConViT with a position embedding; it gets it back, whatever happens in the block.

    Raises:
        ValueError: the model has no position embedding.
    """
    if model.pos_embed is None:
        raise ValueError("the model has no position embedding to mask (use_pos_embed is off); take one that has")
    with _replaced({model.pos_embed: 0.0}):
        yield


@contextmanager
def forced_gates(model: ConViT, layers: int, gate: float) -> Generator[None]:
    """Set the gates of the first layers to exactly 0 or 1.

    Source: ConViT (arXiv 2103.10697), Tab. 6.

    Args:
        model: a ConViT with GPSA layers; it gets its gates back, whatever happens in the block.
        layers: how many GPSA layers, from the first on.
        gate: 1 for position alone (no content), 0 for content alone (no position).

    Raises:
        ValueError: the model has fewer GPSA layers or none, or `gate` is neither 0 nor 1.
    """
    if gate not in (0, 1):
        raise ValueError(f"the gate is {gate}, but must be 1 (position alone) or 0 (content alone)")
    gated = _gated_layers(model)
    if not 1 <= layers <= len(gated):
        raise ValueError(f"{layers} layers are to be forced, but must be 1 to {len(gated)}, the GPSA layers there are")
    with _replaced({layer.gating_param: SATURATED if gate else -SATURATED for layer in gated[:layers]}):
        yield


@contextmanager
def _replaced(values: dict[nn.Parameter, float]) -> Generator[None]:
    kept = {parameter: parameter.detach().clone() for parameter in values}
    try:
        with torch.no_grad():
            for parameter, value in values.items():
                parameter.fill_(value)
        yield
    finally:
        with torch.no_grad():
            for parameter, value in kept.items():
                parameter.copy_(value)
