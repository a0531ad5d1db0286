"""What a model's logits stand for: the names of its classes, in index order, and the temperature of probabilities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from convit.output.text import short

_FOLDER = Path(__file__).with_name("label_sets")

LABEL_SETS = ("imagenet1k", "cifar10", "tiny_imagenet")


def class_names(label_set: str) -> tuple[str, ...]:
    """Name every class of a label set (one of `LABEL_SETS`) in index order; no two names are the same.

    ImageNet's "crane", "maillot" and "cardigan" each stand for two classes; their names here carry a word that tells
    them apart.

    Raises:
        ValueError: there is no such label set.

    >>> class_names("cifar10")[3], class_names("imagenet1k")[134], class_names("imagenet1k")[517]
    ('cat', 'crane (bird)', 'crane (machine)')
    """
    return tuple(name for _, name in _read(label_set))


def class_wnids(label_set: str) -> tuple[str | None, ...]:
    """Return the WordNet id of every class, as ImageNet's folders are named, or None; otherwise as `class_names`.

    >>> class_wnids("imagenet1k")[281]
    'n02123045'
    """
    return tuple(wnid for wnid, _ in _read(label_set))


def numbered_classes(count: int) -> tuple[str, ...]:
    """What the classes of a model are called that names none.

    >>> numbered_classes(2)
    ('class 0', 'class 1')
    """
    return tuple(name_class(None, index) for index in range(count))


def name_class(names: Sequence[str] | None, index: int) -> str:
    """The model's name for a class, or "class 3" if it has no names."""
    return f"class {index}" if names is None else names[index]


def temperature_of(calibration: Any) -> float:
    """Return the temperature that a calibration holds; raises `ValueError` if it holds something else."""
    found = calibration.get("temperature") if isinstance(calibration, dict) else None
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= 1e6:
        raise ValueError(
            f"the weights' calibration holds the temperature {short(found)}, but it must be a number above 0; fit it "
            "again with convit evaluate --calibrate"
        )
    return float(found)


@cache
def _read(label_set: str) -> tuple[tuple[str | None, str], ...]:
    if label_set not in LABEL_SETS:
        raise ValueError(f"there is no label set {label_set!r}; there are {', '.join(LABEL_SETS)}")
    content = json.loads((_FOLDER / f"{label_set}.json").read_text(encoding="utf-8"))
    return tuple((wnid, name) for wnid, name in content["classes"])
