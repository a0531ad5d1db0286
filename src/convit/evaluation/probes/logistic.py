"""Multinomial logistic regression on standardized vectors, by L-BFGS; its regularization by cross-validation.

It minimizes sum of cross-entropies + |weight|² / (2 C), with the bias free, as scikit-learn's `LogisticRegression`.
PyTorch's L-BFGS takes as long as scikit-learn's on one core, needs no package more, and can run on a GPU.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from convit.evaluation.probes.grids import STRENGTHS
from convit.evaluation.probes.linear import Linear, Scaling
from convit.evaluation.probes.report import ProbeScore
from convit.evaluation.probes.sampling import share_of_each, stratified_folds
from convit.evaluation.probes.task import Task

FOLDS = 5
MOST_VALIDATED = 20_000
PATIENCE = 2
MOST_STEPS = 200
GRADIENT_TOLERANCE = 1e-4  # of the mean loss, as in scikit-learn
CHANGE_TOLERANCE = 1e-7
_MOST_SCORES = 1 << 25  # computed at a time: 128 MiB
_log = logging.getLogger(__name__)


class Choice(NamedTuple):
    """The regularization that did best on images left out.

    Attributes:
        strength: C.
        tried: (C, top-1 in percent), in the order of trial.
    """

    strength: float
    tried: tuple[tuple[float, float], ...]


def probe_logistic(task: Task, *, device: torch.device, seed: int = 0) -> ProbeScore:
    """Choose C by cross-validation on training images, fit it to all of them, and test it.

    Args:
        task: the images.
        device: where to compute.
        seed: of the folds and of the bootstrap.

    Returns:
        The figures. C is a prior's variance and does not depend on the number of images; where there are more than
        20,000, it is chosen on so many of them, the same share of each class.

    Raises:
        ValueError: a class has but one training image.
    """
    start = perf_counter()
    check_classes(task)
    rows = share_of_each(task.train_labels, MOST_VALIDATED, 2, seed)
    choice = choose_strength(task.train[rows], task.train_labels[rows], task.classes, device=device, seed=seed)
    scaling = Scaling.of(task.train)
    labels = torch.from_numpy(task.train_labels).to(device)
    fitted = fit_logistic(scaling.apply(task.train, device), labels, task.classes, choice.strength)
    ranks = fitted.ranks_of(task.test, task.test_labels, scaling)
    return ProbeScore.of(
        ranks,
        seed,
        start,
        probe="linear",
        setting="C",
        chosen=choice.strength,
        chosen_by=f"{FOLDS}-fold cross-validation on {len(rows):,} of the {len(labels):,} training images",
        tried=tuple({"C": strength, "validation_top1": found} for strength, found in choice.tried),
    )


def check_classes(task: Task) -> None:
    """Refuse a class of which no image can be left out.

    Raises:
        ValueError: a class has but one training image.
    """
    counts = np.bincount(task.train_labels, minlength=task.classes)
    if counts.min() < 2:
        raise ValueError(
            f"class {task.class_names[int(counts.argmin())]!r} has 1 training image, but the linear probe's "
            "cross-validation needs 2 or more of each class; add images, or use --probe knn,ridge"
        )


def choose_strength(
    vectors: Float32[np.ndarray, "rows dim"],
    labels: Int64[np.ndarray, " rows"],
    classes: int,
    *,
    device: torch.device,
    seed: int | tuple[int, ...] = 0,
    folds: int = FOLDS,
    strengths: Sequence[float] = STRENGTHS,
) -> Choice:
    """Walk from strong to weak regularization until top-1 on images left out is below the best twice in a row.

    Args:
        vectors: of training images; scaled by mean and standard deviation of what each fold is fitted to.
        labels: their classes; every class has at least two images.
        classes: number of classes.
        device: where to compute.
        seed: of the folds.
        folds: parts, each of which is left out once.
        strengths: values of C, ascending. Each fit begins where the one before it ended.

    Returns:
        The first of the best.
    """
    part_of = stratified_folds(labels, folds, seed)
    parts = [_Part.of(vectors, labels, part_of == fold, device) for fold in range(folds) if (part_of == fold).any()]
    fits: list[Linear | None] = [None] * len(parts)
    tried: list[tuple[float, float]] = []
    best = 0
    for number, strength in enumerate(strengths):
        right = 0
        for place, part in enumerate(parts):
            fitted = fits[place] = fit_logistic(part.train, part.labels, classes, strength, start=fits[place])
            right += int((fitted.ranks(part.held, part.held_labels) < 1).sum())
        tried.append((strength, 100 * right / len(labels)))
        _log.debug("C %g: top-1 %.2f %% on images left out", *tried[-1])
        if tried[number][1] > tried[best][1]:
            best = number
        # what is merely no better may be a plateau: of the prior at the strong end, say
        fallen = number - best >= PATIENCE and all(found < tried[best][1] for _, found in tried[-PATIENCE:])
        if fallen or right == len(labels):
            break
    return Choice(tried[best][0], tuple(tried))


def fit_logistic(
    scaled: Float32[Tensor, "rows dim"],
    labels: Int64[Tensor, " rows"],
    classes: int,
    strength: float,
    *,
    start: Linear | None = None,
) -> Linear:
    """Fit scores per class.

    Args:
        scaled: standardized vectors.
        labels: their classes.
        classes: number of classes.
        strength: C; the larger, the weaker the regularization.
        start: where to begin; None for zeros.

    Returns:
        The fit, after at most 200 steps.
    """
    if start is None:
        start = Linear(scaled.new_zeros(classes, scaled.shape[1]), scaled.new_zeros(classes))
    # under strong regularization the weights bend the loss far more than the bias does: smaller units for them
    unit = min(1.0, (strength * len(labels)) ** 0.5)
    penalty = unit**2 / (2 * strength * len(labels))
    weight, bias = (start.weight / unit).requires_grad_(), start.bias.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MOST_STEPS,
        tolerance_grad=GRADIENT_TOLERANCE,
        tolerance_change=CHANGE_TOLERANCE,
        line_search_fn="strong_wolfe",
    )

    rows = max(1, _MOST_SCORES // classes)

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = penalty * weight.square().sum()
        found.backward()
        for part, of_part in zip(scaled.split(rows), labels.split(rows), strict=True):
            scores = torch.addmm(bias, part, weight.T, alpha=unit)
            share = cross_entropy(scores, of_part, reduction="sum") / len(labels)
            share.backward()
            found = found.detach() + share.detach()
        return found

    optimizer.step(loss)
    return Linear(unit * weight.detach(), bias.detach())


class _Part(NamedTuple):
    """One fold: what is fitted, and what is left out."""

    train: Float32[Tensor, "rows dim"]
    labels: Int64[Tensor, " rows"]
    held: Float32[Tensor, "held dim"]
    held_labels: Int64[np.ndarray, " held"]

    @classmethod
    def of(
        cls,
        vectors: Float32[np.ndarray, "rows dim"],
        labels: Int64[np.ndarray, " rows"],
        held: np.ndarray,
        device: torch.device,
    ) -> _Part:
        train = vectors[~held]
        scaling = Scaling.of(train)
        return cls(
            scaling.apply(train, device),
            torch.from_numpy(labels[~held]).to(device),
            scaling.apply(vectors[held], device),
            labels[held],
        )
