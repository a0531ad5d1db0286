"""Exact folds: what a norm, the attention scale and a gate multiply by goes into the weights beside it.

Computed in fp32 at least, whatever the model's precision. What depends on the patch grid alone is computed once per
grid, by `PerGrid`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

Grid = tuple[int, int]
_Value = TypeVar("_Value")


class Affine(NamedTuple):
    """The map x -> weight x + bias."""

    weight: Float[Tensor, "out_features in_features"]
    bias: Float[Tensor, " out_features"]

    def parts(self, count: int) -> list[Affine]:
        """The map cut into `count` equal parts of its outputs."""
        return [Affine(*part) for part in zip(self.weight.chunk(count), self.bias.chunk(count), strict=True)]


def affine_of(linear: nn.Linear) -> Affine:
    """A linear layer's map in fp32 at least, detached; a missing bias is zero."""
    weight = linear.weight.detach()
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
    bias = weight.new_zeros(weight.shape[0]) if linear.bias is None else linear.bias.detach().to(weight)
    return Affine(weight, bias)


def after_norm(affine: Affine, norm: nn.LayerNorm) -> Affine:
    """The map that gives on a plainly normalized x what `affine` gives on `norm`'s output.

    W (γ ⊙ x + β) + b = (W diag γ) x + (W β + b).
    """
    scale, shift = (part.detach().to(affine.weight) for part in (norm.weight, norm.bias))
    return Affine(affine.weight * scale, affine.bias + affine.weight @ shift)


def joined(*parts: Affine) -> Affine:
    """Several maps of one input as one, their outputs side by side."""
    return Affine(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]))


def scaled(affine: Affine, scale: float) -> Affine:
    """The map times a number."""
    return Affine(scale * affine.weight, scale * affine.bias)


class PerGrid(Generic[_Value]):
    """A function of the (rows, columns) of a grid that keeps its results for the last `kept` grids.

    >>> squares = PerGrid(lambda grid: grid[0] * grid[1])
    >>> squares((14, 14))
    196
    """

    def __init__(self, compute: Callable[[Grid], _Value], kept: int = 8) -> None:
        self.compute, self.kept = compute, kept
        self._results: dict[Grid, _Value] = {}

    def __call__(self, grid: Grid) -> _Value:
        """The result for `grid`; not kept where its sides are unknown, in a graph that is recorded for any size."""
        if not all(isinstance(side, int) for side in grid):
            return self.compute(grid)
        found = self._results.get(grid)
        if found is None:
            found = self.compute(grid)
            for oldest in list(self._results)[: max(0, len(self._results) + 1 - self.kept)]:
                self._results.pop(oldest, None)  # another thread may have removed it
            self._results[grid] = found
        return found
