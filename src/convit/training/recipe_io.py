"""Recipes from YAML files, checked key by key, with single values changed from the command line."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from convit.images.names import not_found
from convit.output.text import short
from convit.training.recipe import Recipe

MOST_BYTES, MOST_VALUES, DEEPEST, LONGEST_NUMBER = 256 * 1024, 25_000, 20, 40  # levels; characters of a whole number
PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")
RENAMED = {"optimiser": "optimizer"}


class _Loader(yaml.SafeLoader):
    """What a recipe needs of YAML: plain values, a few levels deep, each written out; dates are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # as PyYAML declares it
        first: [(tag, pattern) for tag, pattern in found if tag[18:] in PLAIN]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse aliases, which can stand for gigabytes, tags, and what is too large or nested too deeply."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name); write the value out")
        if getattr(self.peek_event(), "tag", None):
            raise yaml.YAMLError("it has a tag (!name); write a plain value")
        if self.depth == DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {DEEPEST} levels deep")
        if self.values == MOST_VALUES:
            raise yaml.YAMLError(f"it has more than {MOST_VALUES:,} keys and values")
        self.depth, self.values = self.depth + 1, self.values + 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.ScalarNode) and node.tag[18:] == "int" and len(node.value) > LONGEST_NUMBER:
            raise yaml.YAMLError(f"it has a number of {len(node.value):,} digits")
        return node


def load_yaml(text: str | bytes, what: object) -> Any:
    """Plain values from YAML.

    Raises:
        ValueError: it is not valid YAML, or has aliases, tags, more than 20 levels or 25,000 values, or numbers of
            more than 40 digits; the message names `what` it is.
    """
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{what} is not valid YAML: {textwrap.shorten(str(error), 400)}") from error


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: YAML file.
        changes: "section.key=value" each, values in YAML; they replace what the file says.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a YAML mapping of at most 256 KiB, a key is unknown (the message names the closest),
            or a value has the wrong type or range.
    """
    path = Path(path)
    if not path.is_file():
        raise not_found(path, f"there is no recipe {path}; the project's own are in recipes/")
    with path.open("rb") as file:
        text = file.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, but a recipe has at most {MOST_BYTES:,}")
    content = load_yaml(text, path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} does not hold a recipe; it must map sections to settings, as those in recipes/ do")
    values = cast(dict[str, Any], content)
    _rename_old_keys(values, path)
    return make_recipe(values, changes, where=str(path))


def make_recipe(values: dict[str, Any], changes: Sequence[str] = (), *, where: str = "--set") -> Recipe:
    """Check a recipe's content: sections by name, changed in place, as a YAML file holds them; errors name `where`.

    Raises:
        ValueError: a key is unknown (the message names the closest), or a value has the wrong type or range.
    """
    for change in changes:
        change_values(values, change)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{where}: {_explain(error)}") from error


def _rename_old_keys(values: dict[str, Any], path: Path) -> None:
    for old, new in RENAMED.items():
        if old in values and new not in values:
            values[new] = values.pop(old)
            warnings.warn(f"{path}: the section {old!r} is called {new!r} now; rename it", FutureWarning, stacklevel=3)


def change_values(values: dict[str, Any], change: str) -> None:
    """Set one value of a recipe's content, in place: "section.key=value", the value in YAML.

    Raises:
        ValueError: the change is not written so, or leads into something that is not a section.
    """
    name, sign, text = change.partition("=")
    if not sign or not all(name.strip().split(".")):
        raise ValueError(f"{short(change)} is not a setting; write it as section.key=value, such as schedule.epochs=10")
    value = load_yaml(text, f"the value of {change[:60]!r}")
    # YAML 1.1 takes 1e-3 for a string, for want of a dot.
    set_value(values, name.strip(), _as_number(value) if isinstance(value, str) else value)


def set_value(values: dict[str, Any], name: str, value: Any) -> None:
    """Set one value of a recipe's content, in place.

    Raises:
        ValueError: the name leads into something that is not a section.

    >>> values: dict[str, Any] = {}
    >>> set_value(values, "run.batch_size", 8)
    >>> values
    {'run': {'batch_size': 8}}
    """
    *sections, last = name.split(".")
    for key in sections:
        if values.get(key) is None:
            values[key] = {}
        if not isinstance(values[key], dict):
            raise ValueError(f"{name!r} is set inside {key}, which is not a section")
        values = values[key]
    values[last] = value


def _as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _explain(error: ValidationError) -> str:
    """The first error in one line; unknown keys come with the closest known one."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys_beside(first["loc"])
        close = get_close_matches(str(first["loc"][-1])[:80], known, 1, 0.0)
        name = ".".join([*map(str, first["loc"][:-1]), *close])
        return f"unknown key {short(where)}; the closest is {name!r} (there are: {', '.join(known)})"
    if first["type"] == "missing":
        return f"the key {where!r} is missing"
    problem = first["msg"].removeprefix("Value error, ")
    return f"{where!r} is {short(first['input'])}: {textwrap.shorten(problem[0].lower() + problem[1:], 400)}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Recipe
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return list(section.model_fields)
