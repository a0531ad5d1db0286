"""An optimized model: the reading calls of `ConViT`, on whatever runs them fastest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from convit.model import ConViT
from convit.optimization.calls import Call
from convit.optimization.plan import Plan
from convit.transforms import TransformSettings, normalize_batch

Images = Float[Tensor, "batch channels height width"] | UInt8[Tensor, "batch channels height width"]
Runner = Callable[[ConViT, str], Call]
"""Gives the fast form of a model's `forward` or `forward_features`, by name; can be pickled."""


class OptimizedConViT(nn.Module):
    """A ConViT for inference alone, made by `optimize`; calls and results are those of the model that it came from.

    Images may be normalized ones of any float dtype, or uint8 pixel values (batch, 1 or 3, height, width), which are
    normalized inside, as `takes_uint8` tells callers. Results have the images' dtype, fp32 for 8-bit ones. Precision
    and device are fixed, inside `torch.autocast` too: parameters are folded and laid out for them, so loading, casting
    or moving them is refused, as are `torch.jit.trace` and `torch.export`.

    Args:
        model: the folded model, whose config, pretrained_cfg, num_classes and the like it tells.
        of_levels: the one that takes uint8 pixel values, as floats; None if they are normalized beforehand.
        plan: what was chosen for the device, and why.
        dtype: of tokens.
        runner: PyTorch as it is, compiled code, a recorded graph, or another runtime.
        settings: where the normalization of 8-bit images is read; None where there is none, and they are refused.
    """

    def __init__(
        self,
        model: ConViT,
        of_levels: ConViT | None,
        plan: Plan,
        dtype: torch.dtype,
        runner: Runner,
        settings: TransformSettings | None,
    ) -> None:
        super().__init__()
        self.takes_uint8 = settings is not None
        self.model, self.of_levels, self.plan = model, of_levels, plan
        self.pretrained_cfg = model.pretrained_cfg
        self.config, self.feature_info = model.config, model.feature_info
        self.num_classes, self.num_features = model.num_classes, model.num_features
        self.num_prefix_tokens, self.global_pool = model.num_prefix_tokens, model.global_pool
        self._dtype, self._settings, self._runner = dtype, settings, runner
        self._calls: dict[tuple[str, bool], Call] = {}
        self._call("forward", model)  # made now, since some runners take long
        self.eval()

    @property
    def blocks(self) -> nn.ModuleList:
        """The fast blocks, one for each of the model's."""
        return self.model.blocks

    def forward(self, images: Images) -> Float[Tensor, " batch *rest"]:
        """Classify, or embed where `num_classes` is 0; see `ConViT.forward`."""
        return self._run("forward", images)

    def forward_features(self, images: Images) -> Float[Tensor, "batch tokens dim"]:
        """Every token after the last norm; see `ConViT.forward_features`."""
        return self._run("forward_features", images)

    @torch.no_grad()
    def forward_head(
        self, tokens: Float[Tensor, "batch tokens dim"], pre_logits: bool = False
    ) -> Float[Tensor, " batch *rest"]:
        """Pool and classify what `forward_features` gave; with `pre_logits`, stop before the linear layer."""
        with self._without_autocast():
            return self.model.forward_head(tokens.to(self._dtype), pre_logits).to(tokens.dtype)

    @torch.no_grad()
    def forward_intermediates(self, images: Images, indices: int | Sequence[int] | None = None, **options: Any) -> Any:
        """What chosen blocks give; see `ConViT.forward_intermediates`, whose options these are.

        Runs in PyTorch as it is, whatever runs the other calls.

        Raises:
            ValueError: as there; or the model runs in int8 outside of PyTorch, where only the end can be read.
        """
        if self.plan.backend == "openvino":
            raise ValueError("an int8 model on a CPU gives no intermediate layers; use another precision for them")
        with self._without_autocast():
            model, given = self._prepared(images)
            return _converted(model.forward_intermediates(given, indices, **options), _result_dtype(images))

    def layer_times(self, images: Float[Tensor, "batch channels height width"]) -> dict[str, float]:
        """Seconds by kind of layer, for a model that runs outside of PyTorch (whose profiler sees the others).

        Raises:
            ValueError: the model runs in PyTorch.
        """
        times = getattr(self._call("forward", self.model), "layer_times", None)
        if times is None:
            raise ValueError(f"the model is run by {self.plan.backend}; use PyTorch's profiler")
        return times(self._prepared(images)[1])

    def train(self, mode: bool = True) -> OptimizedConViT:
        """Refuse training by a `ValueError`."""
        if mode:
            raise ValueError("an optimized model is for inference alone; train the model that it was made from")
        return super().train(False)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any, **named: Any) -> None:
        """Refuse weights, whether `load_state_dict` of this module or of one around it brings them."""
        if any(name.startswith(prefix) for name in state_dict):
            raise ValueError(
                "an optimized model loads no weights, since its own are folded; load them into the model that it was "
                "made from, and optimize that"
            )
        super()._load_from_state_dict(state_dict, prefix, *rest, **named)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> OptimizedConViT:
        """What `to`, `half`, `cuda` and the like call: refuse another dtype or device, and let the same one pass."""
        tokens, gates = (torch.empty(0, device=self.plan.device, dtype=each) for each in (self._dtype, torch.float32))
        if _changes(fn, tokens):
            raise ValueError(
                f"an optimized model stays what it was made for ({self.plan.dtype} on {self.plan.device}); move or "
                "cast the model that it was made from, and optimize that"
            )
        return self if _changes(fn, gates) else super()._apply(fn, recurse)

    def _without_autocast(self) -> AbstractContextManager[Any]:
        """Turns autocast off: weights are laid out for the precision that was chosen."""
        kind = torch.device(self.plan.device).type
        return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()

    @torch.no_grad()
    def _run(self, name: str, images: Tensor) -> Tensor:
        if torch.jit.is_tracing() or torch.compiler.is_exporting():  # pyright: ignore[reportPrivateImportUsage]
            raise ValueError(
                "an optimized model can't be traced or exported, since its weights are laid out for this device; trace "
                "or export the model that it was made from, or write a file with convit.export.export_model"
            )
        with self._without_autocast():
            model, given = self._prepared(images)
            return self._call(name, model)(given).to(_result_dtype(images))

    def _call(self, name: str, model: ConViT) -> Call:
        key = (name, model is self.of_levels)
        if key not in self._calls:
            self._calls[key] = self._runner(model, name)
        return self._calls[key]

    def __getstate__(self) -> dict[str, Any]:
        """Without the calls, which a copy makes anew: compiled code and graphs belong to these weights."""
        return {**super().__getstate__(), "_calls": {}}

    def _prepared(self, images: Tensor) -> tuple[ConViT, Tensor]:
        """The model for images of this kind, and the images as it takes them."""
        if images.dtype != torch.uint8:
            return self.model, images.to(self._dtype)
        size = self.config.patch_size
        is_padded = images.shape[-2] % size or images.shape[-1] % size
        if self.of_levels is not None and not is_padded:  # zeros put around stand for the mean, not for black
            return self.of_levels, images.to(self._dtype)
        return self.model, normalized(images, self._settings).to(self._dtype)


def normalized(images: UInt8[Tensor, "batch channels height width"], settings: TransformSettings | None) -> Tensor:
    """8-bit images as the model takes them, in fp32; a `ValueError` where nothing says how to normalize them."""
    if settings is None:
        raise ValueError(
            f"8-bit images of {images.shape[1]} channels have no normalization; give normalized ones, of a float dtype"
        )
    return normalize_batch(images.permute(0, 2, 3, 1), settings)


def _changes(fn: Callable[[Tensor], Tensor], like: Tensor) -> bool:
    made = fn(like)
    return (made.device, made.dtype) != (like.device, like.dtype)


def _result_dtype(images: Tensor) -> torch.dtype:
    return torch.float32 if images.dtype == torch.uint8 else images.dtype


def _converted(found: Any, dtype: torch.dtype) -> Any:
    """Tensors in nested lists and tuples, in another dtype."""
    if isinstance(found, Tensor):
        return found.to(dtype)
    return type(found)(_converted(part, dtype) for part in found)
