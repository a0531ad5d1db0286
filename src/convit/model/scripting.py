"""A twin in the Python that TorchScript compiles, for graphs that FX recorded; a model itself is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from convit.model.attention import GatedPositionalSelfAttention


class ScriptableGPSA(nn.Module):
    """Gated positional self-attention as the paper writes it, with the parts of the layer that it stands for.

    Args:
        layer: the layer; its parts are shared, not copied.
    """

    def __init__(self, layer: GatedPositionalSelfAttention) -> None:
        super().__init__()
        self.num_heads = layer.num_heads
        self.qk, self.v, self.pos_proj, self.gating_param = layer.qk, layer.v, layer.pos_proj, layer.gating_param
        self.attn_drop, self.proj, self.proj_drop = layer.attn_drop, layer.proj, layer.proj_drop

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Attend among the patches of a (rows, columns) grid, given in row-major order."""
        query, key = self.qk(x).chunk(2, dim=-1)
        query, key, value = self._heads(query), self._heads(key), self._heads(self.v(x))
        place = torch.arange(x.shape[1], device=x.device)
        row, column = torch.div(place, grid[1], rounding_mode="floor"), place % grid[1]
        delta_x, delta_y = column[None, :] - column[:, None], row[None, :] - row[:, None]
        places = torch.stack([delta_x, delta_y, delta_x * delta_x + delta_y * delta_y], dim=-1).to(x.dtype)
        content = torch.softmax(query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5, dim=-1)
        position = torch.softmax(self.pos_proj(places).permute(2, 0, 1), dim=-1)
        gate = torch.sigmoid(self.gating_param)[:, None, None]
        read = self.attn_drop((1.0 - gate) * content + gate * position) @ value
        return self.proj_drop(self.proj(read.transpose(1, 2).flatten(2)))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, [self.num_heads, -1]).transpose(1, 2)
