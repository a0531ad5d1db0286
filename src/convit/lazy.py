"""Packages whose names are imported when they are first used, so that importing the package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from sys import modules
from typing import Any


def import_when_used(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`.
        homes: the module in which each of its public names is defined, relative to it (".scoring") or whole.

    >>> __getattr__, __dir__ = import_when_used("json", {"JSONDecoder": ".decoder"})
    >>> __getattr__("JSONDecoder").__module__
    'json.decoder'
    """

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(sorted(homes))}")
        return getattr(import_module(homes[name], package), name)

    def __dir__() -> list[str]:  # noqa: N807
        return sorted({*vars(modules[package]), *homes})

    return __getattr__, __dir__
