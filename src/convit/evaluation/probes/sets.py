"""Which images a probe is trained on, and which it is tested on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convit.data.locate import Source, form_of
from convit.evaluation.labelled import EvenlySpaced, LabelledImages, open_labelled
from convit.evaluation.labelled.imagenet import named_relative
from convit.evaluation.labelled.splits import choose_split, choose_sub_folder, spellings

TRAIN = "train"
TESTS = ("val", "test")


@dataclass(frozen=True)
class ProbeSets:
    """Training and test images.

    Attributes:
        train: to learn from.
        test: to be tested on; None where the data have but one set, of which a fifth of each class is held out.
    """

    train: LabelledImages
    test: LabelledImages | None


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
        data: what `open_labelled` takes.
        split: of the training images.
        test: other data that hold the test images.
        test_split: of the test images, in `test` where that is given, else in `data`.
        limit: only so many training and test images each, evenly spaced.

    Returns:
        The two sets, or one.

    Raises:
        ValueError: both sets are the same split, `limit` is below 1, or as `open_labelled`.
        FileNotFoundError, ConnectionError, ImportError, PermissionError: as `open_labelled`.
    """
    asked = split or (TRAIN if test_split is not None and test is None else None)
    if test is None and asked is not None and test_split is not None and asked in spellings(test_split):
        raise ValueError(f"training and test images are both the split {test_split!r}; name two splits")
    train = open_labelled(data, split=asked) if asked else _find(data, (TRAIN,))
    if test is not None:
        tested = open_labelled(test, split=test_split) if test_split else _find(test, TESTS) or open_labelled(test)
    elif test_split is not None:
        tested = open_labelled(data, split=test_split)
    else:
        others = tuple(name for name in TESTS if asked is None or name not in spellings(asked))
        tested = _find(data, others) if train is not None else None
    train = train or open_labelled(data)
    if limit is not None:
        train, tested = EvenlySpaced(train, limit), None if tested is None else EvenlySpaced(tested, limit)
    return ProbeSets(train, tested)


def _find(data: Source, names: tuple[str, ...]) -> LabelledImages | None:
    """Open the first of these splits that the data have."""
    for name in names:
        if form_of(data) == "hub":  # only its library knows what splits there are
            try:
                return open_labelled(data, split=name)
            except ValueError as error:
                if "split" not in str(error):
                    raise
        elif _has(data, name):
            return open_labelled(data, split=name)
    return None


def _has(data: Source, name: str) -> bool:
    relative = named_relative(data)
    try:
        found = choose_split(data, name) if relative is None else choose_sub_folder(relative[1].expanduser(), name)
    except (ValueError, FileNotFoundError):
        return False
    if not isinstance(found, Path):
        return True
    # a class may be called "train": a split holds classes or shards, and not images
    return form_of(found) != "folder" or any(child.is_dir() for child in found.iterdir())
