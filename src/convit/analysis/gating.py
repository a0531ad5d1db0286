"""What the gates and centers of a model are, and runs with forced gates or a masked position embedding."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convit.model import ConViT, GatedPositionalSelfAttention


def gates(model: ConViT) -> Float[Tensor, "layers heads"]:
    """How much each head reads by place (1) rather than by content (0): the sigmoid of the gating parameters.

    Source: ConViT (arXiv 2103.10697), Eq. 7 and Fig. 6.

    Returns:
        One row per GPSA layer, first layer first; in fp32 at least, without gradient.

    Raises:
        ValueError: the model has no GPSA layer.

    >>> from convit.model import ConViTConfig
    >>> gates(ConViT(ConViTConfig(depth=3, local_up_to_layer=2))).shape
    torch.Size([2, 4])
    """
    return torch.stack([layer.gate.detach() for layer in _gated_layers(model)])


def locality_centers(model: ConViT) -> Float[Tensor, "layers heads 2"]:
    """Where the position attention of each head is centered: the (row, column) offset from the query, in patches.

    The position logits w_0 δx + w_1 δy + w_2 (δx² + δy²) are highest at δx = w_0 / (-2 w_2) columns and
    δy = w_1 / (-2 w_2) rows. Where w_2 >= 0 they have no highest place and both numbers are NaN; heads beyond the
    largest square number start so, with w_2 = 0.

    Source: ConViT (arXiv 2103.10697), Sec. 2 (the attention center Δ).

    Returns:
        One (row, column) per GPSA layer and head, positive downwards and to the right; in fp32 at least, without
        gradient.

    Raises:
        ValueError: the model has no GPSA layer.
    """
    weight = torch.stack([layer.position_weights().detach() for layer in _gated_layers(model)])
    columns, rows, quadratic = weight.unbind(-1)
    centers = torch.stack((rows, columns), dim=-1) / (-2 * quadratic).unsqueeze(-1)
    return centers.masked_fill((quadratic >= 0).unsqueeze(-1), torch.nan)


def _gated_layers(model: ConViT) -> list[GatedPositionalSelfAttention]:
    layers = [module for module in model.blocks.modules() if isinstance(module, GatedPositionalSelfAttention)]
    if not layers:
        raise ValueError(
            "the model has no GPSA layer (its local_up_to_layer is 0), so it has no gates; "
            "take a model with local_up_to_layer of at least 1"
        )
    return layers


# the sigmoid of ±1000 is exactly 0 or 1 in fp64, fp32, bf16 and fp16
SATURATED = 1000.0


@contextmanager
def masked_position_embedding(model: ConViT) -> Generator[None]:
    """Take the absolute position embedding away: zeros stand in for it; the gated layers keep their own positions.

    The model gets it back, whatever happens in the block. Source: ConViT (arXiv 2103.10697), Tab. 5.

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
