"""The labels of ImageNet-1k's validation images, where their folders do not say them."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from convit.output.files import check_packages
from convit.output.text import read_json
from convit.weights.labels import class_wnids

VALIDATION_NAME = "ILSVRC2012_val_00000001.JPEG"
SOLUTION = "LOC_val_solution.csv"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"

_NAME = re.compile(r"ILSVRC2012_val_(\d{8})(?:_(n\d{8}))?\.\w+")
_DEVKIT = ("", "data/", "ILSVRC2012_devkit_t12/data/")
_ABOVE = 4  # from Kaggle's ILSVRC/Data/CLS-LOC/val to the folder that its archive was unpacked to


def validation_number(name: str) -> int | None:
    """The number of a validation image, from 1, by its published name; None for another name.

    >>> validation_number("n01751748/ILSVRC2012_val_00000001.JPEG")
    1
    """
    found = _NAME.fullmatch(PurePosixPath(name).name)
    return int(found[1]) if found else None


def find_beside(folder: Path, names: Sequence[str]) -> Path | None:
    """The first file of one of these names in a folder or in one of the four above it; None without one."""
    whole = folder.resolve()
    places = [place / name for place in (whole, *whole.parents[:_ABOVE]) for name in names]
    return next((place for place in places if place.is_file()), None)


def read_flat_labels(folder: Path, names: Sequence[str]) -> tuple[list[int], Path | None]:
    """ImageNet-1k's class number of each validation image in a folder, and the file that says it; None if `names` do.

    Read are the WordNet ids in the names, as in the archive of the hub (ILSVRC2012_val_00000001_n01751748.JPEG);
    Kaggle's `LOC_val_solution.csv`; or the devkit's ground truth, whose class numbers are its own: `meta.mat` beside it
    says which WordNet ids they mean.

    Raises:
        ImportError: the devkit is to be read, and scipy is not installed.
        ValueError: there is no such file, or it has no label for an image or is damaged.
    """
    in_names = [found[2] if (found := _NAME.fullmatch(name)) else None for name in names]
    if all(in_names):
        return _class_numbers(names, in_names, "the names of the images"), None
    solution = find_beside(folder, (SOLUTION,))
    if solution is not None:
        by_stem = _read_solution(solution)
        return _class_numbers(names, [by_stem.get(PurePosixPath(name).stem) for name in names], solution), solution
    truth = find_beside(folder, [place + GROUND_TRUTH for place in _DEVKIT])
    if truth is not None:
        in_order = _read_ground_truth(truth)
        places = [(validation_number(name) or 0) - 1 for name in names]
        wnids = [in_order[place] if 0 <= place < len(in_order) else None for place in places]
        return _class_numbers(names, wnids, truth), truth
    raise ValueError(
        f"nothing says the labels of the images in {folder}; put {SOLUTION} (from Kaggle) or {GROUND_TRUTH} and {META} "
        "(from the devkit) beside them, or sort them into sub-folders by WordNet id"
    )


def read_real_labels(path: Path) -> list[tuple[int, ...]]:
    """ReaL's labels: for each validation image, by its number, the classes that count as right; none for some.

    Source: Beyer et al., Are we done with ImageNet?, arXiv 2006.07159; `real.json` of its repository.

    Raises:
        ValueError: the file is not a list of lists of ImageNet-1k's class numbers.
    """
    rows = read_json(path, "fetch real.json again")
    classes = range(len(class_wnids("imagenet1k")))
    fits = isinstance(rows, list) and all(
        isinstance(row, list) and all(type(label) is int and label in classes for label in row) for row in rows
    )
    if not fits or not rows:
        raise ValueError(f"{path} is not a list of lists of class numbers up to {classes[-1]}; fetch real.json again")
    return [tuple(row) for row in rows]


def _class_numbers(names: Sequence[str], wnids: Sequence[str | None], source: object) -> list[int]:
    numbers = {wnid: number for number, wnid in enumerate(class_wnids("imagenet1k"))}
    found: list[int] = []
    for name, wnid in zip(names, wnids, strict=True):
        if wnid is None or wnid not in numbers:
            said = "no label" if wnid is None else f"the label {wnid!r}, none of ImageNet-1k's,"
            raise ValueError(f"{source} has {said} for {name}; fetch it again, or remove the image")
        found.append(numbers[wnid])
    return found


def _read_solution(path: Path) -> dict[str, str]:
    """WordNet id by name of the image; the boxes of one image all have the same."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}
    except (KeyError, IndexError, AttributeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"{path} has not the columns ImageId and PredictionString filled in every line; fetch it again"
        ) from error


def _read_ground_truth(path: Path) -> list[str | None]:
    """WordNet id of each validation image, in the order of their numbers."""
    meta = path.with_name(META)
    if not meta.is_file():
        raise ValueError(
            f"{path} holds the devkit's own class numbers, and there is no {META} beside it to say what they mean; "
            f"put the devkit's {META} there"
        )
    by_id = _read_meta(meta)
    try:
        return [by_id.get(int(line)) for line in path.read_text(encoding="ascii").split()]
    except ValueError as error:
        raise ValueError(f"{path} is not a list of class numbers ({error}); fetch the devkit again") from error


def _read_meta(path: Path) -> dict[int, str]:
    check_packages(str(path), "scipy", extra="evaluate")
    from scipy.io import loadmat

    try:
        synsets: Any = loadmat(path, squeeze_me=True)["synsets"]
        return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    except Exception as error:  # scipy's reader raises nearly anything on a damaged file
        raise ValueError(f"{path} cannot be read as the devkit's {META} ({error}); fetch the devkit again") from error
