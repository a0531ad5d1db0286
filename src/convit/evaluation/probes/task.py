"""What a probe is trained and tested on: vectors, and classes counted alike on both sides."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, Int64

from convit.evaluation.probes.embedded import Embedded
from convit.evaluation.probes.sampling import stratified_folds

if TYPE_CHECKING:
    from convit.evaluation.labelled import ClassName

HELD_OUT = 5  # one part of so many
_FEW = 3  # classes that a message names


@dataclass(frozen=True, eq=False)
class Task:
    """Training and test vectors.

    Attributes:
        train: vectors to learn from.
        train_labels: their classes, 0 to `classes` - 1; each occurs.
        test: vectors to be tested on.
        test_labels: their classes.
        class_names: what the data call the classes.
    """

    train: Float32[np.ndarray, "train dim"]
    train_labels: Int64[np.ndarray, " train"]
    test: Float32[np.ndarray, "test dim"]
    test_labels: Int64[np.ndarray, " test"]
    class_names: tuple[str, ...]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def make_task(train: Embedded, test: Embedded | None, seed: int = 0) -> Task:
    """Line up the classes of training and test images; without test images hold out a fifth of each class.

    Classes are the same where the data call them the same: by WordNet id where both sides have them, else by name; by
    number where neither side names its classes.

    Args:
        train: the training images.
        test: the test images; None to hold some of `train` out.
        seed: of what is held out.

    Returns:
        The task; its classes are those that occur among the training images, in the order of their labels.

    Raises:
        ValueError: no image could be read, training and test images are the same, there is but one class, a class is
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
        return _held_out(train, labels, names, seed)
    if train.identity["data"] == test.identity["data"]:
        raise ValueError("training and test images are the same; name others with --test or --test-split")
    return Task(train.vectors, labels, test.vectors, _matched(train, test, kinds, names), names)


def _held_out(train: Embedded, labels: Int64[np.ndarray, " train"], names: tuple[str, ...], seed: int) -> Task:
    counts = np.bincount(labels)
    if counts.min() < 2:
        raise ValueError(
            f"class {names[int(counts.argmin())]!r} has 1 image, so that none can be held out to test on; add images, "
            "or name a test set with --test"
        )
    tested = stratified_folds(labels, HELD_OUT, seed) == 0
    return Task(train.vectors[~tested], labels[~tested], train.vectors[tested], labels[tested], names)


def _matched(
    train: Embedded, test: Embedded, kinds: Int64[np.ndarray, " classes"], names: tuple[str, ...]
) -> Int64[np.ndarray, " test"]:
    """The test images' labels as the training images count them."""
    train_keys, test_keys = _keys(train, test)
    by_key = {train_keys[int(kind)] if train_keys else int(kind): number for number, kind in enumerate(kinds)}
    shown = np.unique(test.labels)
    found = [by_key.get(test_keys[int(label)] if test_keys else int(label)) for label in shown]
    unknown = [_name(test.classes, int(label)) for label, number in zip(shown, found, strict=True) if number is None]
    if unknown:
        listed = ", ".join(repr(name) for name in unknown[:_FEW]) + (", ..." if len(unknown) > _FEW else "")
        raise ValueError(
            f"{len(unknown)} of the {len(shown)} classes of the test images are in no training image: {listed}; "
            f"training knows {', '.join(repr(name) for name in names[:_FEW])}{', ...' if len(names) > _FEW else ''}"
        )
    return np.array(found, dtype=np.int64)[np.searchsorted(shown, test.labels)]


def _keys(train: Embedded, test: Embedded) -> tuple[Sequence[Hashable] | None, Sequence[Hashable] | None]:
    """What tells the classes apart on either side; None where the numbers do."""
    ours, theirs = train.classes, test.classes
    if (ours is None) != (theirs is None):
        named, bare = ("training", "test") if theirs is None else ("test", "training")
        raise ValueError(
            f"the {named} images name their classes and the {bare} images number them, so that they cannot be "
            "compared; put a classes.json beside the shards"
        )
    if ours is None or theirs is None or list(ours) == list(theirs):
        return None, None
    if all(each.wnid for each in (*ours, *theirs)):
        return [each.wnid for each in ours], [each.wnid for each in theirs]
    keys = [each.name for each in ours], [each.name for each in theirs]
    for names in keys:
        if len(set(names)) < len(names):
            double = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two classes are called {double!r}; tell them apart by name or WordNet id")
    return keys


def _name(classes: Sequence[ClassName] | None, label: int) -> str:
    return str(label) if classes is None or label >= len(classes) else classes[label].name
