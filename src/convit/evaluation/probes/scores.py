"""From ranks to figures: top-1, top-5, and how far another test set of the same kind may lie."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from convit.evaluation.metrics import bootstrap


def rank_right(scores: Float[Tensor, "images classes"], right: Int64[Tensor, " images"]) -> Int64[Tensor, " images"]:
    """How many classes stand before the right one; of equal scores the class with the lower number stands first.

    Where the right class's score is no number, all classes do.

    >>> import torch
    >>> rank_right(torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.3, 0.3]]), torch.tensor([2, 1]))
    tensor([1, 1])
    """
    own = scores.gather(1, right[:, None])
    earlier = right.new_tensor(range(scores.shape[1])) < right[:, None]
    ranks = ((scores > own) | ((scores == own) & earlier)).sum(1)
    return ranks.masked_fill(own[:, 0].isnan(), scores.shape[1])


def top(ranks: Int64[np.ndarray, " images"], most: int = 1) -> float:
    """Share of images whose right class is among the first `most`, percent.

    >>> top(np.array([0, 1, 5, 0]), 5)
    75.0
    """
    return 100 * int((ranks < most).sum()) / len(ranks)


def top1_interval(ranks: Int64[np.ndarray, " images"], seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval of top-1, percent.

    Args:
        ranks: of the right classes, from 0.
        seed: of the resamples.

    Returns:
        The lower and the upper end.
    """
    return bootstrap({"top1": np.where(ranks < 1, 100.0, 0.0)}, seed=seed)["top1"]
