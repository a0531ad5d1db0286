"""What is computed of each image's logits, and of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32


@dataclass(frozen=True)
class Outcome:
    """What came of one image.

    Attributes:
        name: path or key of the image.
        label: its class, by the model's numbers.
        rank: how many classes the model prefers to it: 0 where the model is right; None where the image failed.
        loss: cross entropy, natural logarithm; None likewise.
        error: what is wrong with the image, None where all went well.
    """

    name: str
    label: int
    rank: int | None = None
    loss: float | None = None
    error: str | None = None


def score_image(name: str, label: int, logits: Float32[np.ndarray[Any, Any], " classes"]) -> Outcome:
    """Compare one image's logits with its label, in float64.

    Of classes with equal logits the one with the lower number comes first, so that a model which says nothing is not
    right about everything.

    >>> score_image("cat.jpg", 1, np.array([0.0, 2.0, 3.0], dtype=np.float32)).rank
    1
    """
    exact = logits.astype(np.float64)
    own = exact[label]
    rank = int((exact > own).sum() + (exact[:label] == own).sum())
    highest = exact.max()
    loss = float(highest + np.log(np.exp(exact - highest).sum()) - own)
    return Outcome(name, label, rank, loss)


@dataclass
class Tally:
    """Sums over images; those that failed are kept by name and take no part in accuracies.

    Attributes:
        count: images that were scored.
        top1: how many of them the model puts first.
        top5: how many of them the model has among its first five.
        loss_sum: their losses added up.
        failed: the outcomes of the others.

    >>> tally = Tally()
    >>> tally.add(Outcome("a", 0, rank=4, loss=1.5))
    >>> tally.count, tally.top1, tally.top5
    (1, 0, 1)
    """

    count: int = 0
    top1: int = 0
    top5: int = 0
    loss_sum: float = 0.0
    failed: list[Outcome] = field(default_factory=list[Outcome])

    def add(self, outcome: Outcome) -> None:
        """Count one image."""
        if outcome.rank is None or outcome.loss is None:
            self.failed.append(outcome)
            return
        self.count += 1
        self.top1 += outcome.rank < 1
        self.top5 += outcome.rank < 5
        self.loss_sum += outcome.loss
