"""Results of runs, and what several seeds say together: mean, range, and differences seed by seed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """What one run came to.

    Attributes:
        model: the row's label.
        column: the column's label.
        share: part of the training images of each class.
        seed: of the run.
        epochs: with cool-down.
        top1: of the final weights on the test images, percent.
        test_images: how many they were.
        train_images: images that were trained on.
        seconds: time of the training epochs.
        params: parameters of the model.
        test: the test images, as they were named.
        recipe: fingerprint of the recipe.
    """

    model: str
    column: str
    share: float
    seed: int
    epochs: int
    top1: float
    test_images: int
    train_images: int
    seconds: float
    params: int
    test: str
    recipe: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)


def read_result(path: str | Path) -> Result | None:
    """A run's `result.json`; None where there is none.

    Raises:
        ValueError: the file holds something else.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no result of a run; remove it, and the run is tested again") from error


@dataclass(frozen=True)
class Spread:
    """Values of several seeds.

    >>> str(Spread((44.9, 45.7))), Spread((1.5, 2.5)).signed()
    ('45.3 (44.9 to 45.7; 2 seeds)', '+2.0 (+1.5 to +2.5; 2 seeds)')
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the values."""
        return sum(self.values) / len(self.values)

    @property
    def low(self) -> float:
        """The least value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)

    def overlaps(self, other: Spread) -> bool:
        """Whether the two ranges have a value in common."""
        return self.low <= other.high and other.low <= self.high

    def __str__(self) -> str:
        """Mean, range and number of seeds."""
        return self._format(".1f")

    def signed(self) -> str:
        """The same of differences, with signs."""
        return self._format("+.1f")

    def _format(self, form: str) -> str:
        if len(self.values) == 1:
            return f"{self.mean:{form}} (1 seed)"
        return f"{self.mean:{form}} ({self.low:{form}} to {self.high:{form}}; {len(self.values)} seeds)"


class Scores:
    """Top-1 by row, column and seed.

    Args:
        results: of the runs that are done.
    """

    def __init__(self, results: Iterable[Result]) -> None:
        self.results = tuple(results)
        self._top1: dict[tuple[str, str], dict[int, float]] = {}
        for result in self.results:
            self._top1.setdefault((result.model, result.column), {})[result.seed] = result.top1

    def cell(self, row: str, column: str) -> Spread | None:
        """Top-1 of a row and column over the seeds; None where no run is done."""
        found = self._top1.get((row, column))
        return Spread(tuple(found[seed] for seed in sorted(found))) if found else None

    def difference(self, row: str, reference: str, column: str) -> Spread | None:
        """Row minus reference in points, over the seeds that both have; None where there is none."""
        ours, theirs = self._top1.get((row, column), {}), self._top1.get((reference, column), {})
        shared = sorted(ours.keys() & theirs.keys())
        return Spread(tuple(ours[seed] - theirs[seed] for seed in shared)) if shared else None

    def params(self, row: str) -> int | None:
        """Parameters of a row's model; None where no run is done."""
        return next((result.params for result in self.results if result.model == row), None)
