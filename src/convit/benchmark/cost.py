"""What one image costs a model, counted and not timed: the measure that speed is compared with."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convit.model import ConViT
from convit.model.attention import GatedPositionalSelfAttention
from convit.model.counting import _OperationCounter, count_operations
from convit.model.positional import apply_axis_attention

Size = tuple[int, int]


@dataclass(frozen=True)
class Cost:
    """Counts for one image of one size; None if a model cannot be counted.

    Attributes:
        parameters: learned values.
        macs: multiply-accumulates of the paper's equations as written, which is what others' tables count.
        activations: values that products give, counted likewise.
        executed: multiply-accumulates that are computed in fact.
        tokens: patches of the image; None for other libraries' models.
        position: multiply-accumulates of applying position attention, in all GPSA layers, part of `executed`.
    """

    parameters: int
    macs: int | None
    activations: int | None
    executed: int | None
    tokens: int | None = None
    position: int | None = None


def count_cost(model: ConViT, size: Size, *, plain: bool = False) -> Cost:
    """Count what an image of `size` (height, width) costs one of our models, or its plain twin.

    Raises:
        ValueError: the patch size does not divide the image size.
    """
    written = count_operations(model, size)
    executed = written if plain else count_operations(model, size, form="fused")
    grid = model.config.replace(img_size=size).grid_size
    position = None if plain else _count_position(model, grid)
    return Cost(written.parameters, written.macs, written.activations, executed.macs, grid[0] * grid[1], position)


def _count_position(model: ConViT, grid: Size) -> int:
    """Multiply-accumulates of applying position attention's two factors, over all GPSA layers."""
    counter = _OperationCounter()
    for layer in model.modules():
        if isinstance(layer, GatedPositionalSelfAttention):
            heads, head_dim = layer.num_heads, layer.v.out_features // layer.num_heads
            value = torch.empty(1, heads, grid[0] * grid[1], head_dim, device="meta")
            rows, columns = (torch.empty(heads, length, length, device="meta") for length in grid)
            with torch.no_grad(), counter:
                apply_axis_attention(value, rows, columns)
    return counter.macs


def count_peer_cost(model: nn.Module, image: Tensor) -> Cost:
    """Count what an image (1, channels, height, width) costs another library's model; no arithmetic is done."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    twin = copy.deepcopy(model).to("meta").eval()
    try:
        with torch.no_grad(), _OperationCounter() as counter:
            twin(torch.empty_like(image, device="meta", dtype=torch.float32))
    except (NotImplementedError, RuntimeError):
        # some models look at values, or make tensors on a device of their own choice
        return Cost(parameters, None, None, None)
    return Cost(parameters, counter.macs, counter.activations, counter.macs)
