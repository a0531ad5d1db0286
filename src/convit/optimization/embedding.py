"""The fast patch embedding: positions added once per grid, and 8-bit images normalized inside the kernel."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convit.model import ConViT, resample_position_embedding
from convit.model.layers import PatchEmbedding
from convit.optimization.folding import Grid, PerGrid


class FastEmbedding(nn.Module):
    """Patch embedding and position embedding in one.

    Args:
        model: the model whose embeddings they are.
        patches: its patch embedding, or one that stands for it.
        dtype: of the tokens.
    """

    def __init__(self, model: ConViT, patches: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.patch_size, self.own_grid, self.dtype = model.config.patch_size, model.config.grid_size, dtype
        self.patches = copy.deepcopy(patches).to(dtype)
        self.position = None if model.pos_embed is None else nn.Buffer(model.pos_embed.detach().clone())
        self.positions = PerGrid(self._resample)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch patches dim"]:
        """The patches with their positions, in row-major order."""
        tokens = self.patches(images).contiguous()
        if self.position is None:
            return tokens
        return tokens + self.positions((images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size))

    def _resample(self, grid: Grid) -> Tensor:
        """The position embedding of a grid."""
        return resample_position_embedding(cast(Tensor, self.position), self.own_grid, grid).to(self.dtype)


@torch.no_grad()
def embedding_of_levels(patches: PatchEmbedding, mean: Sequence[float], std: Sequence[float]) -> PatchEmbedding:
    """The patch embedding that gives on uint8 pixel values what `patches` gives on normalized images.

    Source: normalization and kernel are both linear; computed in fp64, rounded once.

    Args:
        patches: a patch embedding.
        mean: what normalization subtracts per channel, on a scale where white is 1.
        std: what it divides by, on the same scale.
    """
    kernel, bias = patches.proj.weight.double(), cast(Tensor, patches.proj.bias).double()
    shift, scale = (kernel.new_tensor(values)[:, None, None] for values in (mean, std))
    folded = copy.deepcopy(patches)
    folded.proj.weight.copy_(kernel / (255.0 * scale))
    cast(Tensor, folded.proj.bias).copy_(bias - (kernel * (shift / scale)).sum((1, 2, 3)))
    return folded
