"""When a shortcut may stand in for a layer: only while nobody has changed what calling that layer does.

`torch.compile` and `torch.export` trace through these questions.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn
from torch.nn.modules.module import _has_any_global_hook
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def is_hooked(layer: nn.Module) -> bool:
    """Whether somebody sees or changes what goes in or out when `layer` is called."""
    hooks = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    return bool(hooks or "forward" in layer.__dict__ or _has_any_global_hook())


def is_untouched(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether calling `layer` does what one of `kinds` does with its own weights, and nothing else.

    Whoever computes a layer's result without calling it asks this first, and calls it where the answer is no. Adapters
    and parametrizations make another class of a layer, quantization and sharding another kind of its weights.
    """
    return type(layer) in kinds and not is_hooked(layer) and all(map(_is_ordinary, layer._parameters.values()))


def _is_ordinary(value: nn.Parameter | None) -> bool:
    return value is None or type(value) is nn.Parameter or not is_traceable_wrapper_subclass(value)


def is_recorded(value: Tensor) -> bool:
    """Whether FX records the call: its graph then names what each layer gives, and shortcuts would leave some out."""
    return isinstance(value, fx.Proxy)


def takes_shortcuts(block: nn.Module) -> bool:
    """What the block's own `takes_shortcuts` says; False for one of somebody else's."""
    ask: Any = getattr(block, "takes_shortcuts", None)
    return ask is not None and ask()
