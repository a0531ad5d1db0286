"""What checks shapes while the tests run, through jaxtyping's import hook."""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def check_shapes(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arrays among a function's arguments and results; whatever else is wrong, its own errors must say."""
    function.__annotations__ = {name: kind for name, kind in function.__annotations__.items() if _has_shape(kind)}
    return beartype(function)


def _has_shape(kind: Any) -> bool:
    return (isinstance(kind, type) and issubclass(kind, AbstractArray)) or any(map(_has_shape, get_args(kind)))
