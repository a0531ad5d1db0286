"""Ridge regression on one-hot classes, in closed form; its regularization by exact leave-one-out.

With A = diag(s) + alpha in the eigenbasis of the scatter matrix, the prediction of a row fitted without it is
y - (y - p) / (1 - h) with h = 1/n + z A⁻¹ z: every alpha costs one product, and no fit is repeated. It is what
scikit-learn's `RidgeClassifierCV` calls generalized cross-validation.
"""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from convit.evaluation.probes.grids import ALPHAS
from convit.evaluation.probes.linear import CHUNK, Linear, Scaling
from convit.evaluation.probes.report import ProbeScore
from convit.evaluation.probes.scores import rank_right
from convit.evaluation.probes.task import Task


class _Solved(NamedTuple):
    """All that the fits for every alpha share."""

    spread: Float64[Tensor, " dim"]  # eigenvalues of the scatter matrix
    axes: Float64[Tensor, "dim dim"]
    projected: Float64[Tensor, "dim classes"]  # centered targets along these axes
    prior: Float64[Tensor, " classes"]  # mean of the targets


def probe_ridge(task: Task, *, device: torch.device, seed: int = 0) -> ProbeScore:
    """Choose alpha by leaving out each training image in turn, and test it.

    Args:
        task: the images.
        device: where to compute; double precision, so the CPU where a device has none.
        seed: of the bootstrap.

    Returns:
        The figures. Vectors are standardized, with mean and standard deviation of all training images.
    """
    start = perf_counter()
    place = torch.device("cpu") if device.type == "mps" else device
    scaling = Scaling.of(task.train)
    scaled = scaling.apply(task.train, place)
    labels = torch.from_numpy(task.train_labels).to(place)
    solved = _solve(scaled, labels, task.classes)
    right = _right_when_left_out(scaled, labels, solved)
    held = [100 * count / len(labels) for count in right]
    best = int(np.argmax(held))  # the first, and strongest, of equals
    ranks = _linear(solved, ALPHAS[best]).ranks_of(task.test, task.test_labels, scaling)
    return ProbeScore.of(
        ranks,
        seed,
        start,
        probe="ridge",
        setting="alpha",
        chosen=ALPHAS[best],
        chosen_by=f"leaving out each of the {len(labels):,} training images in turn, in closed form",
        tried=tuple({"alpha": alpha, "validation_top1": found} for alpha, found in zip(ALPHAS, held, strict=True)),
    )


def fit_ridge(
    scaled: Float32[Tensor, "rows dim"], labels: Int64[Tensor, " rows"], classes: int, alpha: float
) -> Linear:
    """Fit one-hot targets (1 for the right class, else 0) with a free bias.

    Args:
        scaled: vectors with mean 0.
        labels: their classes.
        classes: number of classes.
        alpha: weight of the squared length of each class's weights against the sum of squared errors.

    Returns:
        The fit.
    """
    return _linear(_solve(scaled, labels, classes), alpha)


def left_out_top1(
    scaled: Float32[Tensor, "rows dim"], labels: Int64[Tensor, " rows"], classes: int
) -> dict[float, float]:
    """Top-1 in percent of rows that are left out one at a time, for each alpha."""
    right = _right_when_left_out(scaled, labels, _solve(scaled, labels, classes))
    return {alpha: 100 * count / len(labels) for alpha, count in zip(ALPHAS, right, strict=True)}


def _solve(scaled: Float32[Tensor, "rows dim"], labels: Int64[Tensor, " rows"], classes: int) -> _Solved:
    dim = scaled.shape[1]
    scatter = scaled.new_zeros(dim, dim, dtype=torch.float64)
    sums = scaled.new_zeros(classes, dim, dtype=torch.float64)
    for rows, of_rows in zip(scaled.split(CHUNK), labels.split(CHUNK), strict=True):
        exact = rows.double()
        scatter.addmm_(exact.T, exact)
        sums.index_add_(0, of_rows, exact)
    spread, axes = torch.linalg.eigh(scatter)
    prior = torch.bincount(labels, minlength=classes).double() / len(labels)
    # the vectors have mean 0, so that centring the targets changes nothing here
    return _Solved(spread.clamp(min=0), axes, axes.T @ sums.T, prior)


def _linear(solved: _Solved, alpha: float) -> Linear:
    weight = solved.axes @ (solved.projected / (solved.spread + alpha)[:, None])
    return Linear(weight.T.contiguous(), solved.prior)


def _right_when_left_out(
    scaled: Float32[Tensor, "rows dim"], labels: Int64[Tensor, " rows"], solved: _Solved
) -> list[int]:
    """How many rows a fit without them puts first, for each alpha."""
    right = [0] * len(ALPHAS)
    for rows, of_rows in zip(scaled.split(CHUNK), labels.split(CHUNK), strict=True):
        turned = rows.double() @ solved.axes
        target = torch.nn.functional.one_hot(of_rows, len(solved.prior)).double()
        for place, alpha in enumerate(ALPHAS):
            shrunk = turned / (solved.spread + alpha)
            leverage = (turned * shrunk).sum(1, keepdim=True) + 1 / len(labels)
            predicted = torch.addmm(solved.prior, shrunk, solved.projected)
            # of more features than rows the leverage reaches 1, where nothing is known of the row
            alone = target - (target - predicted) / (1 - leverage).clamp(min=1e-9)
            right[place] += int((rank_right(alone, of_rows) < 1).sum())
    return right
