"""The two attention layers: gated positional self-attention, and ordinary self-attention that can read one token."""

from __future__ import annotations

import math
import warnings
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from convit.model import kernels, plain
from convit.model.content import read_content
from convit.model.positional import (
    apply_axis_attention,
    grid_of,
    local_position_weights,
    patch_distances,
    position_factors,
)
from convit.model.shortcuts import is_recorded, is_untouched


class GatedPositionalSelfAttention(nn.Module):
    """Gated positional self-attention (GPSA): each head mixes what it reads by content with what it reads by place.

    Source: ConViT (arXiv 2103.10697), Eqs. 4-7. Differs: mixes the two outputs instead of the two attention matrices,
    which is the same by linearity, and applies the position matrix through its two factors. So no patches x patches
    tensor is built, in training either, unless `plain` is set, attention dropout is at work, or somebody hooked
    `attn_drop` to see one. With `kernel` set the whole of it is one Triton kernel. A `pos_proj` that is adapted, hooked
    or parametrized is called on the offsets between patches, whose position matrix (one for the batch) is then built.

    Args:
        dim: width of a token.
        num_heads: heads; a square number starts as a k x k convolution, others leave heads beyond k² without a place
            (a warning says so).
        qkv_bias: adds biases to queries, keys and values.
        attn_drop: dropout on the attention matrix in training, in [0, 1).
        proj_drop: dropout after the projection in training, in [0, 1).
        locality_strength: how narrow the initial convolution is.

    Attributes:
        grid_size: (rows, columns) of patches that a call without a grid means, set by the model; None for a square.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        qkv_bias: bool = False,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        locality_strength: float = 1.0,
    ) -> None:
        super().__init__()
        self.dim, self.num_heads = dim, num_heads
        self.locality_strength = locality_strength
        self.grid_size: tuple[int, int] | None = None
        self.plain = False
        self.kernel = False
        self.qk = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.v = nn.Linear(dim, dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.pos_proj = nn.Linear(3, num_heads)
        self.proj_drop = nn.Dropout(proj_drop)
        self.gating_param = nn.Parameter(torch.ones(num_heads))

    @torch.no_grad()
    def initialize_locality(self) -> None:
        """Start as a convolution (paper Sec. 3): v is the identity, the heads look at the places of a k x k kernel."""
        kernel = math.isqrt(self.num_heads)
        if kernel**2 != self.num_heads:
            warnings.warn(
                f"{self.num_heads} heads are not a square number: {kernel**2} of them start as a {kernel} x {kernel} "
                f"convolution, the other {self.num_heads - kernel**2} attend everywhere alike",
                stacklevel=2,
            )
        self.v.weight.copy_(torch.eye(self.v.out_features))
        self.pos_proj.weight.copy_(local_position_weights(self.num_heads, self.locality_strength))
        self.pos_proj.bias.zero_()
        self.gating_param.fill_(1.0)

    def __prepare_scriptable__(self) -> ScriptableGPSA:
        """What `torch.jit.script` compiles instead, in a graph that FX recorded."""
        return ScriptableGPSA(self)

    @property
    def gate(self) -> Float[Tensor, " heads"]:
        """How much each head reads by place, in (0, 1); fp32 at least."""
        return torch.sigmoid(self.gating_param.to(torch.promote_types(self.gating_param.dtype, torch.float32)))

    def position_factors(
        self, grid: tuple[int, int]
    ) -> tuple[Float[Tensor, "heads grid_height grid_height"], Float[Tensor, "heads grid_width grid_width"]]:
        """See `positional.position_factors`; reads `pos_proj` instead of calling it."""
        return position_factors(self.pos_proj.weight, self.pos_proj.bias, grid)

    def position_attention(self, grid: tuple[int, int]) -> Float[Tensor, "heads patches patches"]:
        """The position half of Eq. 7 on a (rows, columns) grid, fp32 at least; memory grows with patches²."""
        return plain.position_attention(self._position_scores, grid, self.gating_param)

    def position_weights(self) -> Float[Tensor, "heads 3"]:
        """How much (δx, δy, δx² + δy²) weigh for each head, whatever stands in for `pos_proj`; fp32 at least."""
        dtype = torch.promote_types(self.gating_param.dtype, torch.float32)
        places = torch.cat((torch.zeros(1, 3), torch.eye(3))).to(self.gating_param.device, dtype)
        scores = self._position_scores(places)
        return (scores[1:] - scores[:1]).T

    def _position_scores(self, places: Float[Tensor, "*pairs 3"]) -> Float[Tensor, "*pairs heads"]:
        layer = self.pos_proj
        if is_untouched(layer, nn.Linear):  # as precise as `places`: bf16 is inexact for whole numbers above 256
            return F.linear(places, layer.weight.to(places.dtype), layer.bias.to(places.dtype))
        return layer(places.to(self.gating_param.dtype)).to(places.dtype)

    def attention_matrix(
        self, x: Float[Tensor, "batch patches dim"], grid: tuple[int, int] | None = None
    ) -> Float[Tensor, "batch heads patches patches"]:
        """The blended attention matrix of Eq. 7 on a (rows, columns) grid; memory grows with patches²."""
        grid = grid or grid_of(x.shape[1], self.grid_size)
        query, key = (split_heads(part, self.num_heads) for part in self.qk(x).chunk(2, dim=-1))
        content = plain.content_attention(query, key)
        return plain.gated_attention(content, self.position_attention(grid), self.gate)

    def get_attention_map(
        self, x: Float[Tensor, "batch patches dim"], return_map: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """How far each head looks, averaged over images and patches: timm's method; see `attended_distance`."""
        matrix = self.attention_matrix(x).mean(dim=0)
        distance = attended_distance(matrix, grid_of(x.shape[1], self.grid_size))
        return (distance, matrix) if return_map else distance

    def forward(
        self, x: Float[Tensor, "batch patches dim"], grid: tuple[int, int] | None = None
    ) -> Float[Tensor, "batch patches dim"]:
        """Attend among the patches of a (rows, columns) grid, given in row-major order; see `grid_size` for None.

        Raises:
            ValueError: `kernel` is set where the Triton kernel can't run, or the grid is unknown.
        """
        grid = grid or grid_of(x.shape[1], self.grid_size)
        value = split_heads(self.v(x), self.num_heads)
        if self.plain or _is_seen(self.attn_drop):
            read = join_heads(self.attn_drop(self.attention_matrix(x, grid)) @ value)
            return self.proj_drop(self.proj(read))
        query, key = (split_heads(part, self.num_heads) for part in self.qk(x).chunk(2, dim=-1))
        is_separable = is_untouched(self.pos_proj, nn.Linear)
        if self.kernel and is_separable:
            read = kernels.fused_gated_attention(query, key, value, *self.position_factors(grid), self.gate)
        else:
            content = read_content(query, key, value)
            if is_separable:
                rows, columns = (factor.to(value.dtype) for factor in self.position_factors(grid))
                position = apply_axis_attention(value, rows, columns)
            else:
                position = self.position_attention(grid).to(value.dtype) @ value
            read = join_heads(torch.lerp(content, position, self.gate.to(value.dtype)[:, None, None]))
        return self.proj_drop(self.proj(read))


class ScriptableGPSA(nn.Module):
    """GPSA as the paper writes it, in the Python that TorchScript compiles, for graphs that FX recorded.

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


class SelfAttention(nn.Module):
    """Ordinary multi-head self-attention, as in the blocks that see the class token; all names as in GPSA."""

    def __init__(
        self, dim: int, num_heads: int, *, qkv_bias: bool = False, attn_drop: float = 0.0, proj_drop: float = 0.0
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.grid_size: tuple[int, int] | None = None
        self.plain = False
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)

    def attention_matrix(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch heads tokens tokens"]:
        """The attention matrix among all tokens; memory grows with tokens²."""
        query, key, _ = self._query_key_value(x, class_only=False)
        return plain.content_attention(query, key)

    def get_attention_map(
        self, x: Float[Tensor, "batch tokens dim"], return_map: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """As GPSA's, of patches alone or with a class token in front, which doesn't count; there timm's fails."""
        matrix, known = self.attention_matrix(x).mean(dim=0), self.grid_size
        has_class = known is not None and x.shape[1] == known[0] * known[1] + 1
        distance = attended_distance(matrix, grid_of(x.shape[1] - has_class, known))
        return (distance, matrix) if return_map else distance

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], *, class_only: bool = False
    ) -> Float[Tensor, "batch queries dim"]:
        """Attend among all tokens; with `class_only`, give what the first token reads and nothing else."""
        query, key, value = self._query_key_value(x, class_only=class_only)
        if self.plain or not is_untouched(self.attn_drop, nn.Dropout) or is_recorded(x):
            read = self.attn_drop(plain.content_attention(query, key)) @ value
        else:
            dropout = self.attn_drop.p if self.attn_drop.training else 0.0
            read = read_content(query, key, value, dropout=dropout)
        return self.proj_drop(self.proj(join_heads(read)))

    def _query_key_value(self, x: Tensor, *, class_only: bool) -> tuple[Tensor, ...]:
        if class_only and is_untouched(self.qkv, nn.Linear):
            dim = x.shape[-1]
            weight, bias = self.qkv.weight, self.qkv.bias
            query = F.linear(x[:, :1], weight[:dim], None if bias is None else bias[:dim])
            key, value = F.linear(x, weight[dim:], None if bias is None else bias[dim:]).chunk(2, dim=-1)
        else:
            query, key, value = self.qkv(x).chunk(3, dim=-1)
            query = query[:, :1] if class_only else query
        return tuple(split_heads(part, self.num_heads) for part in (query, key, value))


def _is_seen(attn_drop: nn.Module) -> bool:
    """Whether the attention matrix must be built for dropout, or for whoever hooked or exchanged the layer."""
    return not is_untouched(attn_drop, nn.Dropout) or (attn_drop.training and cast(nn.Dropout, attn_drop).p > 0)


def attended_distance(matrix: Float[Tensor, "heads tokens tokens"], grid: tuple[int, int]) -> Float[Tensor, " heads"]:
    """Mean distance in patches between a patch and what it attends to (paper Eq. 8), for each head.

    Of tokens before the patches the rows and columns are left out, and what is left of each row sums to 1 again.
    """
    patches = grid[0] * grid[1]
    if matrix.shape[-1] > patches:
        matrix = matrix[..., -patches:, -patches:]
        matrix = matrix / matrix.sum(dim=-1, keepdim=True)
    return (matrix.flatten(-2) @ patch_distances(grid, matrix).flatten()) / patches


def split_heads(x: Float[Tensor, "batch tokens dim"], num_heads: int) -> Float[Tensor, "batch heads tokens head_dim"]:
    """One view per head, head_dim = dim / num_heads channels wide."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def join_heads(x: Float[Tensor, "batch heads tokens head_dim"]) -> Float[Tensor, "batch tokens dim"]:
    """The heads' channels side by side again."""
    return x.transpose(1, 2).flatten(2)
