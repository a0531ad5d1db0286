"""Models and amounts of data as the command line writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import yaml

from convit.model import VARIANTS
from convit.studies.study import change
from convit.training.peers import is_peer
from convit.training.recipe import Recipe
from convit.weights.weight_sets import closest

Number = TypeVar("Number", int, float)
EXAMPLE = "DeiT=convit_tiny,local_up_to_layer=0"


def read_models(specs: Sequence[str], recipe: Recipe) -> dict[str, Recipe]:
    """Label → recipe of each model: the recipe itself, with only its model replaced.

    Args:
        specs: "NAME" or "LABEL=NAME", each with ",OPTION=VALUE" as often as wanted; several may stand in one text with
            spaces between. NAME is a variant or "timm:NAME", an option one that the recipe's `model.options` takes.
            The recipe's own variant keeps the recipe's options but for those that are given; others keep its
            number of classes.
        recipe: what the models are trained by.

    Raises:
        ValueError: a text is no such specification, names no variant, or a label comes twice.
    """
    rows: dict[str, Recipe] = {}
    for spec in [part for text in specs for part in text.split()]:
        label, model = _read_model(spec, recipe)
        if label in rows:
            raise ValueError(f"the model {label!r} comes twice; give one of the two another label, as in {EXAMPLE}")
        rows[label] = model
    return rows


def _read_model(spec: str, recipe: Recipe) -> tuple[str, Recipe]:
    head, *settings = spec.split(",")
    label, sign, name = head.partition("=")
    label, name = (label, name) if sign else (spec, head)
    options: dict[str, object] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign or not key or not value:
            raise ValueError(f"{setting!r} in the model {spec!r} is no OPTION=VALUE; write it as in {EXAMPLE}")
        options[key] = yaml.safe_load(value)
    if not label or not name or not (is_peer(name) or name in VARIANTS):
        raise ValueError(
            f"{name!r} in the model {spec!r} is no variant and no timm:NAME; {closest(name, VARIANTS)}; write it as in "
            f"{EXAMPLE}"
        )
    own = recipe.model
    if name == own.architecture:
        return label, change(recipe, "model", options=own.options | options)
    kept = {key: value for key, value in own.options.items() if key == "num_classes"}
    return label, change(recipe, model={"architecture": name, "options": kept | options})


def read_shares(text: str) -> list[float]:
    """Shares of the training images in ascending order.

    Args:
        text: with commas between them.

    Raises:
        ValueError: one is no number above 0 and up to 1.

    >>> read_shares("0.1,0.05")
    [0.05, 0.1]
    """
    return _read_numbers(text, float, lambda share: 0 < share <= 1, "a share above 0 and up to 1, as in 0.05,0.1,0.3,1")


def read_counts(text: str) -> list[int]:
    """Numbers of images in ascending order.

    Args:
        text: with commas between them.

    Raises:
        ValueError: one is no whole number above 0.

    >>> read_counts("1000,100")
    [100, 1000]
    """
    return _read_numbers(text, int, lambda count: count > 0, "a number of images above 0, as in 100,1000,10000")


def _read_numbers(text: str, kind: Callable[[str], Number], fits: Callable[[Number], bool], what: str) -> list[Number]:
    found: set[Number] = set()
    for part in text.split(","):
        try:
            number = kind(part)
        except ValueError:
            number = None
        if number is None or not fits(number):
            raise ValueError(f"{part.strip()!r} in {text!r} is not {what}")
        found.add(number)
    return sorted(found)
