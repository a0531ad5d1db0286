"""What checks shapes while the tests run, through jaxtyping's import hook."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any, get_args

import pytest
from beartype import beartype
from jaxtyping import AbstractArray


def check_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arrays among a function's arguments and results; whatever else is wrong, its own errors must say."""
    function.__annotations__ = {name: kind for name, kind in function.__annotations__.items() if _has_shape(kind)}
    return beartype(function)


def _has_shape(kind: Any) -> bool:
    return (isinstance(kind, type) and issubclass(kind, AbstractArray)) or any(map(_has_shape, get_args(kind)))


@contextmanager
def unchecked() -> Iterator[None]:
    """Functions and methods as they are written, for `torch.compile` and FX, which cannot read through the checks."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("convit", "tests")]
    classes = {each for module in modules for each in vars(module).values() if isinstance(each, type)}
    own = [each for each in classes if each.__module__.startswith("convit.")]
    with pytest.MonkeyPatch.context() as patch:
        for owner in (*modules, *own):
            for name, value in list(vars(owner).items()):
                if isinstance(value, property) and _is_checked(value.fget):
                    patch.setattr(owner, name, value.getter(value.fget.__wrapped__))
                elif _is_checked(value):
                    patch.setattr(owner, name, value.__wrapped__)
        yield


def _is_checked(value: Any) -> bool:
    return isinstance(value, FunctionType) and value.__globals__.get("__name__") == "jaxtyping._decorator"
