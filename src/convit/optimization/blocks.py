"""The fast block and the fast patch embedding: everything folded that can be, for inference alone.

Their plain twins are the parts of `model.layers` that they are made from.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from convit.model.attention import GatedPositionalSelfAttention, SelfAttention, join_heads, split_heads
from convit.model.content import read_content
from convit.model.convit import ConViT
from convit.model.kernels import fused_gated_attention
from convit.model.layers import Block, PatchEmbedding
from convit.model.positional import apply_axis_attention, position_factors, resample_position_embedding
from convit.model.shortcuts import is_hooked
from convit.optimization.folding import Affine, Grid, PerGrid, affine_of, after_norm, joined, scaled
from convit.optimization.products import PlainProduct, Product


@dataclass(frozen=True)
class Form:
    """What the fast parts of a model are made of.

    Attributes:
        product: of the matrix products.
        dtype: of tokens and weights.
        kernel: takes the Triton kernel for gated attention.
        apart: makes queries, keys and values a product each, for a runtime that is slow at cutting one result in three.
    """

    product: Product = PlainProduct
    dtype: torch.dtype = torch.float32
    kernel: bool = False
    apart: bool = False

    def make(self, affine: Affine, *, gelu: bool = False) -> nn.Module:
        """The product with these weights, and GELU after it where asked."""
        return self.product(affine, self.dtype, gelu=gelu)


class FastGatedAttention(nn.Module):
    """Gated positional self-attention on plainly normalized tokens, without its projection.

    `norm`, which comes before `attention`, and the attention scale are in the products' weights, and the gate is in the
    factors of position attention, which are computed once per grid; the Triton kernel scales and mixes by itself.
    """

    def __init__(self, attention: GatedPositionalSelfAttention, norm: nn.LayerNorm, form: Form) -> None:
        super().__init__()
        self.num_heads, self.kernel = attention.num_heads, form.kernel
        query, key = affine_of(attention.qk).parts(2)
        if not form.kernel:
            query = scaled(query, (query.weight.shape[0] / attention.num_heads) ** -0.5)
        self.query_key_value = _Products((query, key, affine_of(attention.v)), norm, form)
        gate = attention.gate.detach()
        self.gate = nn.Buffer(gate)
        self.kept = nn.Buffer((1 - gate)[:, None, None].to(form.dtype))
        self.position_weight = nn.Buffer(attention.pos_proj.weight.detach().clone())
        self.position_bias = nn.Buffer(attention.pos_proj.bias.detach().clone())
        self.factors = PerGrid(self._compute_factors)

    def forward(
        self, normed: Float[Tensor, "batch patches dim"], grid: Grid, class_only: bool = False
    ) -> Float[Tensor, "batch patches dim"]:
        """What the heads read, side by side; there is no class token to read for alone."""
        del class_only
        query, key, value = (split_heads(part, self.num_heads) for part in self.query_key_value(normed))
        if self.kernel:
            return fused_gated_attention(query, key, value, *self.factors(grid), self.gate)
        content = read_content(query, key, value, scale=1.0, in_place=True)
        # in place on attention's own result, whose memory order makes joining the heads free
        read = content.mul_(self.kept).add_(apply_axis_attention(value, *self.factors(grid)))
        return join_heads(read)

    def _compute_factors(self, grid: Grid) -> tuple[Tensor, Tensor]:
        """Times the gate, where the kernel does not mix."""
        rows, columns = position_factors(self.position_weight, self.position_bias, grid)
        if self.kernel:
            return rows, columns
        return (self.gate[:, None, None] * rows).to(self.kept), columns.to(self.kept)


class FastSelfAttention(nn.Module):
    """Ordinary self-attention on plainly normalized tokens, without its projection; `norm` is in the products' weights.

    Queries are a product of their own, since the last block makes only one of them.
    """

    def __init__(self, attention: SelfAttention, norm: nn.LayerNorm, form: Form) -> None:
        super().__init__()
        self.num_heads = attention.num_heads
        query, key, value = affine_of(attention.qkv).parts(3)
        self.query = form.make(after_norm(scaled(query, (query.weight.shape[0] / attention.num_heads) ** -0.5), norm))
        self.key_value = _Products((key, value), norm, form)

    def forward(
        self, normed: Float[Tensor, "batch tokens dim"], grid: Grid, class_only: bool = False
    ) -> Float[Tensor, "batch queries dim"]:
        """What the heads read, side by side; with `class_only`, what those of the first token read."""
        del grid
        query = split_heads(self.query(normed[:, :1] if class_only else normed), self.num_heads)
        key, value = (split_heads(part, self.num_heads) for part in self.key_value(normed))
        return join_heads(read_content(query, key, value, scale=1.0, in_place=True))


class FastBlock(nn.Module):
    """A block whose norms are plain, their scale and shift being in the products after them."""

    def __init__(self, block: Block, form: Form) -> None:
        super().__init__()
        self.dim, self.eps = block.norm1.normalized_shape, block.norm1.eps
        if isinstance(block.attn, GatedPositionalSelfAttention):
            self.attend: nn.Module = FastGatedAttention(block.attn, block.norm1, form)
        else:
            self.attend = FastSelfAttention(cast(SelfAttention, block.attn), block.norm1, form)
        self.proj = form.make(affine_of(cast(nn.Linear, block.attn.proj)))
        self.fc1 = form.make(after_norm(affine_of(block.mlp.fc1), block.norm2), gelu=True)
        self.fc2 = form.make(affine_of(block.mlp.fc2))

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], grid: Grid, class_only: bool = False
    ) -> Float[Tensor, "batch queries dim"]:
        """Update the tokens, as `Block.forward` does; `x` itself stays as it is."""
        read = self.attend(F.layer_norm(x, self.dim, eps=self.eps), grid, class_only)
        x = self.proj(read).add_(x[:, :1] if class_only else x)
        return self.fc2(self.fc1(F.layer_norm(x, self.dim, eps=self.eps))).add_(x)

    def takes_shortcuts(self) -> bool:
        """Whether nobody can tell that only some of its tokens are computed."""
        return not any(map(is_hooked, self.modules()))


class FastEmbedding(nn.Module):
    """Position embedding of `model`, and its patch embedding or one that stands for it, in one."""

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
        return resample_position_embedding(cast(Tensor, self.position), self.own_grid, grid).to(self.dtype)


@torch.no_grad()
def embedding_of_levels(patches: PatchEmbedding, mean: Sequence[float], std: Sequence[float]) -> PatchEmbedding:
    """The patch embedding that gives on uint8 pixel values what `patches` gives on normalized images.

    Normalization subtracts `mean` and divides by `std` per channel, on a scale where white is 1; it is linear as the
    kernel is. Computed in fp64 on the CPU, rounded once.
    """
    dtype = patches.proj.weight.dtype
    # on the CPU: Apple's GPUs have no fp64
    kernel, bias = (part.cpu().double() for part in (patches.proj.weight, cast(Tensor, patches.proj.bias)))
    shift, scale = (kernel.new_tensor(values)[:, None, None] for values in (mean, std))
    folded = copy.deepcopy(patches)
    folded.proj.weight.copy_((kernel / (255.0 * scale)).to(dtype))
    cast(Tensor, folded.proj.bias).copy_((bias - (kernel * (shift / scale)).sum((1, 2, 3))).to(dtype))
    return folded


class _Products(nn.ModuleList):
    """Several maps of one input to equally many outputs: one product that is cut apart, or a product for each."""

    def __init__(self, parts: Sequence[Affine], norm: nn.LayerNorm, form: Form) -> None:
        super().__init__(form.make(after_norm(part, norm)) for part in (parts if form.apart else [joined(*parts)]))
        self.count = len(parts)

    def forward(self, normed: Tensor) -> tuple[Tensor, ...]:
        if len(self) == 1:
            return self[0](normed).chunk(self.count, -1)
        return tuple(product(normed) for product in self)
