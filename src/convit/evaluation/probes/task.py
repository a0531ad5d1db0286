"""What a probe is trained and tested on: vectors, classes counted alike on both sides, and which images go where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int64

from convit.data.classes import ClassName, find_name, wnid_or_name
from convit.evaluation.probes.embedded import Embedded
from convit.output.text import first_few

HELD_OUT = 5  # one part of so many
MOST_TRAINED = 100_000  # training images; of more a seeded sample is taken, so that every probe fits in memory
Rows = Int64[np.ndarray, " rows"]


@dataclass(frozen=True, eq=False)
class Task:
    """Training and test vectors.

    Attributes:
        train: vectors to learn from.
        train_labels: their classes, 0 to `classes` - 1; each occurs.
        test: vectors to be tested on.
        test_labels: their classes.
        class_names: what the data call the classes.
        train_of: number of training images that these were drawn from; None if all are taken.
    """

    train: Float32[np.ndarray, "train dim"]
    train_labels: Int64[np.ndarray, " train"]
    test: Float32[np.ndarray, "test dim"]
    test_labels: Int64[np.ndarray, " test"]
    class_names: tuple[str, ...]
    train_of: int | None = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def make_task(train: Embedded, test: Embedded | None, seed: int = 0) -> Task:
    """Line up the classes of training and test images; without test images hold out a fifth of each class.

    Classes are the same where the data call them the same: by WordNet id, which a name may be; else, where the sides do
    not both have ids, by name as `convit.data.classes.find_name` finds them; by number where neither side names
    its classes. The first rule that fits all classes of the test images is taken.

    Returns:
        The task; its classes are those that occur among the training images, in the order of their labels. Of more
        than 100,000 training images so many are drawn, the same share of each class.

    Raises:
        ValueError: no image could be read, training and test images are the same, there is only one class, a class is
            too small to hold some out, or the test images show classes that no training image shows.
    """
    for what, images in (("training", train), ("test", test)):
        if images is not None and not len(images.labels):
            first = next(iter(images.unreadable.values()), "there is none")
            raise ValueError(f"no {what} image could be read; the first: {first}")
    kinds, labels = np.unique(train.labels, return_inverse=True)
    names = tuple(_name(train.classes, int(kind)) for kind in kinds)
    if len(names) < 2:
        raise ValueError(f"all training images are of one class, {', '.join(names)!r}; a probe needs at least two")
    labels = labels.astype(np.int64)
    if test is None:
        return _sampled(_held_out(train, labels, names, seed), seed)
    # a copy under another name is the same
    if all(train.identity["data"].get(key) == test.identity["data"].get(key) for key in ("sha256", "evenly_spaced")):
        raise ValueError("training and test images are the same; name others with --test or --test-split")
    return _sampled(Task(train.vectors, labels, test.vectors, _matched(train, test, kinds, names), names), seed)


def _sampled(task: Task, seed: int) -> Task:
    rows = share_of_each(task.train_labels, MOST_TRAINED, 2, seed)
    if len(rows) == len(task.train):
        return task
    return replace(task, train=task.train[rows], train_labels=task.train_labels[rows], train_of=len(task.train))


def _held_out(train: Embedded, labels: Int64[np.ndarray, " train"], names: tuple[str, ...], seed: int) -> Task:
    counts = np.bincount(labels)
    if counts.min() < 2:
        raise ValueError(
            f"class {names[int(counts.argmin())]!r} has 1 image, so that none can be held out to test on; add images, "
            "or name a test set with --test"
        )
    tested = stratified_folds(labels, HELD_OUT, seed) == 0
    # of two images one is not enough to learn from: the linear probe leaves out one more
    left = np.bincount(labels[~tested], minlength=len(names))
    tested &= (left > 1)[labels]
    if not tested.any():
        raise ValueError(
            f"no class has enough images to hold some out: the largest has {counts.max()}; add images, or name a test "
            "set with --test"
        )
    return Task(train.vectors[~tested], labels[~tested], train.vectors[tested], labels[tested], names)


def _matched(
    train: Embedded, test: Embedded, kinds: Int64[np.ndarray, " classes"], names: tuple[str, ...]
) -> Int64[np.ndarray, " test"]:
    """The test images' labels as the training images count them."""
    shown = np.unique(test.labels)
    misses: list[list[int]] = []
    for found in _places(train, test, kinds, shown):
        counts = Counter(found)
        unclear = [place is None or counts[place] > 1 for place in found]
        if not any(unclear):
            return np.array(found, dtype=np.int64)[np.searchsorted(shown, test.labels)]
        misses.append(shown[unclear].tolist())
    unknown = [repr(_name(test.classes, label)) for label in min(misses, key=len)]
    raise ValueError(
        f"{len(unknown)} of the {len(shown)} classes of the test images are in no training image: "
        f"{first_few(unknown)}; training knows {first_few(list(map(repr, names)))}"
    )


def _places(
    train: Embedded, test: Embedded, kinds: Int64[np.ndarray, " classes"], shown: Int64[np.ndarray, " shown"]
) -> list[list[int | None]]:
    """The training images' class of each class that the test images show, by one rule after the other."""
    ours, theirs = train.classes, test.classes
    ours, theirs = ours or _numbered(theirs, kinds), theirs or _numbered(ours, shown)
    if (ours is None) != (theirs is None):
        named, bare = ("training", "test") if theirs is None else ("test", "training")
        raise ValueError(
            f"the {named} images name their classes and the {bare} images number them, so that they cannot be "
            "compared; put a classes.json beside the shards"
        )
    if ours is None or theirs is None or list(ours) == list(theirs):
        by_label = {int(label): place for place, label in enumerate(kinds)}
        return [[by_label.get(int(label)) for label in shown]]
    known, wanted = [ours[label] for label in kinds], [theirs[label] for label in shown]
    for side in (known, wanted):
        double, count = Counter(map(wnid_or_name, side)).most_common(1)[0]
        if count > 1:
            raise ValueError(f"two classes are called {double!r}; tell them apart by name or WordNet id")
    by_id = {wnid_or_name(each): place for place, each in enumerate(known)}
    find = find_name([each.name for each in known])
    found = [[by_id.get(wnid_or_name(each)) for each in wanted], [find(each.name) for each in wanted]]
    # names are only a hint where both sides have ids
    return found[:1] if all(each.wnid for each in (*known, *wanted)) else found


def _numbered(others: Sequence[ClassName] | None, labels: Int64[np.ndarray, " labels"]) -> list[ClassName] | None:
    """Labels as the names of their classes, where the other side's names are numbers too."""
    if others is None or not all(each.name.isdecimal() for each in others):
        return None
    return [ClassName(str(label)) for label in range(int(labels.max()) + 1)]


def _name(classes: Sequence[ClassName] | None, label: int) -> str:
    return str(label) if classes is None else classes[label].name


def by_class(labels: Rows, seed: int | tuple[int, ...]) -> Rows:
    """All rows, those of one class after those of another, in random order within each."""
    order = np.random.default_rng(seed).permutation(len(labels))
    return order[np.argsort(labels[order], kind="stable")]


def stratified_folds(labels: Rows, folds: int, seed: int | tuple[int, ...]) -> Rows:
    """The number of the fold of each row; every class is spread over the folds as evenly as it can be.

    Of two folds or more, a class with at least two rows has one outside every fold.

    >>> stratified_folds(np.array([0, 0, 1, 1]), 2, 0).reshape(2, 2).sum(1).tolist()
    [1, 1]
    """
    found = np.empty(len(labels), dtype=np.int64)
    found[by_class(labels, seed)] = np.arange(len(labels)) % folds
    return found


def few_of_each(
    labels: Rows, count: int | Int64[np.ndarray, " classes"], seed: int | tuple[int, ...]
) -> Int64[np.ndarray, " taken"]:
    """`count` rows of each class, or as many as are said for each of them, ascending.

    Those for a smaller count are among those for a larger one.

    >>> few_of_each(np.array([5, 5, 7, 7, 7]), 2, 0)[:2].tolist()
    [0, 1]
    """
    order = by_class(labels, seed)
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    place = np.arange(len(labels)) - np.repeat(starts, counts)
    return np.sort(order[place < np.repeat(np.broadcast_to(count, len(counts)), counts)])


def share_of_each(labels: Rows, most: int, least_each: int, seed: int | tuple[int, ...]) -> Int64[np.ndarray, " taken"]:
    """About `most` rows, ascending: the same share of each class, and at least `least_each` of it where it has them.

    >>> len(share_of_each(np.repeat([0, 1], [90, 10]), 20, 5, 0))
    23
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    counts = np.unique(labels, return_counts=True)[1]
    return few_of_each(labels, np.maximum(np.minimum(counts, least_each), counts * most // len(labels)), seed)
