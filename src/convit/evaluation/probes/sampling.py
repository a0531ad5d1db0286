"""Which images go where: folds, a held-out part, a few of each class. All of it follows from a seed and the labels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

Rows = Int64[np.ndarray, " rows"]


def by_class(labels: Rows, seed: int | tuple[int, ...]) -> Rows:
    """All rows, those of one class after those of another, in random order within each."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return order[np.argsort(labels[order], kind="stable")]


def stratified_folds(labels: Rows, folds: int, seed: int | tuple[int, ...]) -> Rows:
    """The number of the fold of each row; every class is spread over the folds as evenly as it can be.

    Args:
        labels: class of each row.
        folds: how many, at least 2. A class with at least two rows has one outside every fold.
        seed: of the order within a class.

    >>> stratified_folds(np.array([0, 0, 1, 1]), 2, 0).reshape(2, 2).sum(1).tolist()
    [1, 1]
    """
    found = np.empty(len(labels), dtype=np.int64)
    found[by_class(labels, seed)] = np.arange(len(labels)) % folds
    return found


def few_of_each(labels: Rows, count: int, seed: int | tuple[int, ...]) -> Rows:
    """`count` rows of each class, ascending; those for a smaller count are among those for a larger one.

    >>> few_of_each(np.array([5, 5, 7, 7, 7]), 2, 0)[:2].tolist()
    [0, 1]
    """
    order = by_class(labels, seed)
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    place = np.arange(len(labels)) - np.repeat(starts, counts)
    return np.sort(order[place < count])


def share_of_each(labels: Rows, most: int, least_each: int, seed: int | tuple[int, ...]) -> Rows:
    """About `most` rows, ascending: the same share of each class, and at least `least_each` of it where it has them.

    >>> len(share_of_each(np.repeat([0, 1], [90, 10]), 20, 5, 0))
    23
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    order = by_class(labels, seed)
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    kept = np.maximum(np.minimum(counts, least_each), counts * most // len(labels))
    place = np.arange(len(labels)) - np.repeat(starts, counts)
    return np.sort(order[place < np.repeat(kept, counts)])
