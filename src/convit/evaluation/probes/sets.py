"""Which images a probe is trained on, and which it is tested on."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from convit.data import EvenlySpaced, Samples, open_samples
from convit.data.classes import plain_name, wnid_or_name
from convit.data.imagenet import named_relative
from convit.data.locate import Source, kind_of
from convit.data.splits import SplitError, has_part, spellings

TRAIN = "train"
TESTS = ("val", "test")


class ProbeSets(NamedTuple):
    """Training and test images; no test images where the data have one set, of which a fifth of each is held out."""

    train: Samples
    test: Samples | None


def open_sets(
    data: Source,
    *,
    split: str | None = None,
    test: Source | None = None,
    test_split: str | None = None,
    limit: int | None = None,
) -> ProbeSets:
    """Open training and test images.

    Data with a split "train" and a split "val" ("validation") or "test" need no option: the first is trained on, the
    second tested on. Data without splits are one set.

    Args:
        data: what `open_samples` takes.
        split: of the training images.
        test: other data that hold the test images.
        test_split: of the test images, in `test` where that is given, else in `data`.
        limit: only so many training and test images each, evenly spaced.

    Raises:
        ValueError: both sets are the same split, there is a split to test on and none to train on, a label is none of
            the data's classes, images have several right classes (ImageNet ReaL), the test images are scored among
            some classes only (ImageNet-A and -R) and the training images are not, `limit` is below 1, or as
            `open_samples`.
        FileNotFoundError, ConnectionError, ImportError, PermissionError: as `open_samples`.
    """
    for source in (data, test):
        _check_one_label(source)
    asked = split or (TRAIN if test_split is not None and test is None else None)
    if test is None and asked is not None and test_split is not None and asked in spellings(test_split):
        raise ValueError(f"training and test images are both the split {test_split!r}; name two splits")
    train = open_samples(data, split=asked) if asked else _find(data, (TRAIN,))
    if test is not None:
        tested = open_samples(test, split=test_split) if test_split else _find(test, TESTS) or open_samples(test)
    elif test_split is not None:
        tested = open_samples(data, split=test_split)
    else:
        others = tuple(name for name in TESTS if asked is None or name not in spellings(asked))
        tested = _find(data, others) if train is not None else None
    if train is None:
        _check_whole(data)
        train = open_samples(data)
    _check_classes(train, tested)
    if limit is not None:
        train, tested = EvenlySpaced(train, limit), None if tested is None else EvenlySpaced(tested, limit)
    return ProbeSets(train, tested)


def _find(data: Source, names: tuple[str, ...]) -> Samples | None:
    """Open the first of these splits that the data have."""
    for name in names:
        if kind_of(data).prefixes:  # only what opens these knows their splits
            with suppress(SplitError):
                return open_samples(data, split=name)
        elif has_part(data, name):
            return open_samples(data, split=name)
    return None


def _check_one_label(data: Source | None) -> None:
    relative = named_relative(data)
    if relative is not None and relative[0] == "imagenet-real":
        raise ValueError(
            f"{data} has several right labels for an image, but a probe learns one and is tested by one; name the "
            f"images as imagenet:{relative[1]}"
        )


def _check_whole(data: Source) -> None:
    """Refuse splits without one to train on: the sub-folders "val" and "test" are not classes."""
    if kind_of(data).prefixes:
        return  # without a split's name these are one split
    found = [name for name in TESTS if has_part(data, name)]
    # shards of a single split are one set
    if len(found) > 1 or (found and not kind_of(data).suffixes):
        raise ValueError(f"{data} has no split {TRAIN}, but {' and '.join(found)}; name one to train on with --split")


def _check_classes(train: Samples, test: Samples | None) -> None:
    if test is None or not test.restricted or train.classes is None or test.classes is None:
        return
    competing = [test.classes[label] for label in test.competing]
    known = {wnid_or_name(each) for each in competing} | {plain_name(each.name) for each in competing}
    shown = [train.classes[label] for label in train.distinct_labels]
    if not all(wnid_or_name(each) in known or plain_name(each.name) in known for each in shown):
        raise ValueError(
            f"{test.source} is scored among {len(competing)} classes, but the {len(shown)} of the training images are "
            "others too; name its folder itself, without a prefix, to score it among all of them"
        )
