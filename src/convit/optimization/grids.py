"""What depends on the patch grid alone, computed once per grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Grid = tuple[int, int]
_Value = TypeVar("_Value")


class PerGrid(Generic[_Value]):
    """A function of the (rows, columns) of a grid that keeps its results for the grids seen last.

    Args:
        compute: the function.
        kept: results to keep.

    >>> squares = PerGrid(lambda grid: grid[0] * grid[1])
    >>> squares((14, 14))
    196
    """

    def __init__(self, compute: Callable[[Grid], _Value], kept: int = 8) -> None:
        self.compute = compute
        self.kept = kept
        self._results: dict[Grid, _Value] = {}

    def __call__(self, grid: Grid) -> _Value:
        """The result for `grid`."""
        if grid not in self._results:
            while len(self._results) >= self.kept:
                self._results.pop(next(iter(self._results)))
            self._results[grid] = self.compute(grid)
        return self._results[grid]
