"""Few-shot curves: how good a probe is that has seen one, two, five … images of each class.

Two probes: the nearest class mean (cosine similarity to the mean of a class's vectors of length 1; Snell et al. 2017,
arXiv 1703.05175, and Wang et al. 2019, arXiv 1911.04623), and logistic regression.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Int64

from convit.evaluation.probes.linear import CHUNK, Linear, Scaling, chunks
from convit.evaluation.probes.logistic import FOLDS, choose_strength, fit_logistic
from convit.evaluation.probes.nearest import unit
from convit.evaluation.probes.report import ShotScore
from convit.evaluation.probes.sampling import few_of_each
from convit.evaluation.probes.scores import top
from convit.evaluation.probes.task import Task

UNCHOSEN_STRENGTH = 0.01  # C where no class has a second image to choose it by
_log = logging.getLogger(__name__)
Ranks = Int64[np.ndarray, " test"]


def probe_few_shots(
    task: Task, shots: Sequence[int], *, draws: int, device: torch.device, seed: int = 0
) -> tuple[list[ShotScore], dict[int, str]]:
    """Train on a few images of each class, several times, and test on all test images.

    Which images are drawn depends on the seed and on the training images' classes and order, and not on the vectors: it
    is the same for every model. A draw of a few is part of that draw of more. C of logistic regression is chosen by
    cross-validation within the first draw; for one image per class it is that of the next larger number.

    Args:
        task: the images.
        shots: numbers of images per class, ascending.
        draws: how often each is drawn.
        device: where to compute.
        seed: of the draws.

    Returns:
        The figures, first of all class means; and images per class → why so many were left out.
    """
    counts = np.bincount(task.train_labels, minlength=task.classes)
    smallest = int(counts.argmin())
    left_out = {
        count: f"class {task.class_names[smallest]!r} has {counts[smallest]} training images"
        for count in shots
        if count > counts[smallest]
    }
    kept = [count for count in shots if count not in left_out]
    strengths = _choose_strengths(task, kept, device, seed)
    means: list[ShotScore] = []
    linear: list[ShotScore] = []
    for count in kept:
        drawn = [few_of_each(task.train_labels, count, (seed, draw)) for draw in range(draws)]
        start = perf_counter()
        means.append(_score("mean", count, [_nearest_mean(task, rows, device) for rows in drawn], start))
        start = perf_counter()
        ranks = [_logistic(task, rows, strengths[count], device) for rows in drawn]
        linear.append(_score("linear", count, ranks, start, strengths[count]))
        _log.info("%d per class: top-1 %.2f %%, %.2f %% by class means", count, linear[-1].top1, means[-1].top1)
    return [*means, *linear], left_out


def _choose_strengths(task: Task, shots: Sequence[int], device: torch.device, seed: int) -> dict[int, float]:
    """C for each number of images per class."""
    found: dict[int, float] = {}
    for count in shots:
        if count > 1:
            rows = few_of_each(task.train_labels, count, (seed, 0))
            vectors, labels = task.train[rows], task.train_labels[rows]
            # no more folds than images, or some class would be rarer than the others in what a fold is fitted to
            folds = min(FOLDS, count)
            choice = choose_strength(vectors, labels, task.classes, device=device, seed=seed, folds=folds)
            found[count] = choice.strength
    return {1: next(iter(found.values()), UNCHOSEN_STRENGTH), **found}


def _nearest_mean(task: Task, rows: Int64[np.ndarray, " drawn"], device: torch.device) -> Ranks:
    vectors = unit(torch.from_numpy(task.train[rows]).to(device))
    labels = torch.from_numpy(task.train_labels[rows]).to(device)
    # the class with the highest cosine to the unit vector of its mean; a sum points where the mean does
    means = unit(vectors.new_zeros(task.classes, vectors.shape[1]).index_add_(0, labels, vectors))
    nearest = Linear(means, means.new_zeros(task.classes))
    parts = zip(chunks(task.test), range(0, len(task.test), CHUNK), strict=True)
    # scores of a test vector at any length are in the same order
    return np.concatenate([nearest.ranks(part.to(device), task.test_labels[at : at + CHUNK]) for part, at in parts])


def _logistic(task: Task, rows: Int64[np.ndarray, " drawn"], strength: float, device: torch.device) -> Ranks:
    vectors = task.train[rows]
    scaling = Scaling.of(vectors)
    labels = torch.from_numpy(task.train_labels[rows]).to(device)
    fitted = fit_logistic(scaling.apply(vectors, device), labels, task.classes, strength)
    return fitted.ranks_of(task.test, task.test_labels, scaling)


def _score(probe: str, shots: int, ranks: Sequence[Ranks], start: float, strength: float | None = None) -> ShotScore:
    draws = [top(each) for each in ranks]
    return ShotScore(
        probe=probe,
        shots=shots,
        top1=float(np.mean(draws)),
        top1_deviation=float(np.std(draws, ddof=1)) if len(draws) > 1 else None,
        top5=float(np.mean([top(each, 5) for each in ranks])),
        draws=tuple(draws),
        setting=None if strength is None else "C",
        chosen=strength,
        seconds=perf_counter() - start,
    )
