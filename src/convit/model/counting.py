"""Counting what a model costs: parameters, multiply-accumulates and activations, run without data."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convit.model.config import ConViTConfig
from convit.model.convit import ConViT


@dataclass(frozen=True)
class Operations:
    """What one image costs.

    Attributes:
        parameters: learned values.
        macs: multiply-accumulate operations of convolutions and matrix products.
        activations: values that convolutions and matrix products give, as in timm's result tables.
    """

    parameters: int
    macs: int
    activations: int

    @property
    def gmacs(self) -> float:
        """Multiply-accumulates, in 10^9."""
        return self.macs / 1e9


class _OperationCounter(TorchDispatchMode):
    """Adds up every operation that PyTorch's own FLOP table knows."""

    def __init__(self) -> None:
        # not at the top of the file: it imports Triton, which whoever only runs a model would wait for
        from torch.utils.flop_counter import flop_registry

        super().__init__()
        self._formulas = flop_registry
        self.macs = 0
        self.activations = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        formula: Callable[..., int] | None = self._formulas.get(func.overloadpacket)
        if formula is not None:
            self.macs += formula(*args, **(kwargs or {}), out_val=result) // 2
            first = result[0] if isinstance(result, tuple) else result
            self.activations += first.numel()
        return result


def count_operations(
    model: ConViT | ConViTConfig,
    img_size: int | tuple[int, int] | None = None,
    form: Literal["fused", "plain"] = "plain",
) -> Operations:
    """Count what one image costs; no arithmetic is done, and the model stays as it is.

    Args:
        model: any ConViT, on any device, or the configuration of one, which takes no memory.
        img_size: pixels, one number or (height, width); None takes the model's own.
        form: "plain" counts the paper's equations as written (what others' tables count), "fused" what is executed.

    Raises:
        ValueError: the patch size does not divide `img_size`.
    """
    if isinstance(model, ConViTConfig):
        with torch.device("meta"):
            model = ConViT(model, initialize=False)
    twin = copy.deepcopy(model).to("meta").eval()
    twin.set_attention(form)
    config = model.config if img_size is None else model.config.replace(img_size=img_size)
    image = torch.empty(
        1, config.in_chans, config.image_height, config.image_width, device="meta", dtype=next(twin.parameters()).dtype
    )
    # inference_mode would hide the matrix products inside `linear`
    with torch.no_grad(), _OperationCounter() as counter:
        twin(image)
    return Operations(sum(p.numel() for p in model.parameters()), counter.macs, counter.activations)
