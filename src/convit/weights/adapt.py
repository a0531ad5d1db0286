"""Make a state dict fit a model that differs from the one it was saved from: input channels, classes, image size."""

from __future__ import annotations

import logging
import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from convit.model.positional import resample_position_embedding
from convit.model.variants import find_variant
from convit.output.text import first_few

if TYPE_CHECKING:
    from convit.model import ConViT, ConViTConfig

_HEAD = ("head.weight", "head.bias")
_EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2)  # PyTorch copies these, but computes nothing in them
_SHOWN = 4  # names in one line of an error

_log = logging.getLogger(__name__)


def adapt_weights(
    tensors: Mapping[str, Tensor],
    model: ConViT,
    *,
    source_grid: tuple[int, int] | None = None,
    source_name: str = "the file",
    strict: bool = True,
) -> dict[str, Tensor]:
    """Make weights fit a model, so that a strict `load_state_dict` takes them.

    - Other input channels: see `adapt_input_channels`.
    - Another number of classes: the head is left as the model has it, freshly initialized; with none it is dropped.
    - Another patch grid, of another shape too: the position embedding is resampled (14 x 14 and 7 x 28 both have 196).

    Args:
        tensors: a state dict with timm's or the authors' names.
        model: the model to load it into.
        source_grid: (rows, columns) of patches that the position embedding was trained for; None takes a square where
            the number is one, else the model's own.
        source_name: what to call the weights in errors.
        strict: refuses names that are missing or too many; else missing ones stay as the model has them, those too many
            are left out, and a warning names both.

    Returns:
        Exactly the model's names, with its shapes.

    Raises:
        ValueError: names are missing or too many (with `strict`), or a shape differs otherwise.
    """
    adapted = {name: tensor.float() if tensor.dtype in _EIGHT_BITS else tensor for name, tensor in tensors.items()}
    for name, tensor in adapted.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{source_name} holds {tensor.dtype} in {_some([name])}, but weights are float numbers")
    wanted = model.state_dict()
    _adapt_channels(adapted, wanted)
    _adapt_head(adapted, wanted)
    _adapt_positions(adapted, model.config, source_grid)
    return _fitting(adapted, wanted, source_name, strict=strict)


def adapt_input_channels(
    weight: Float[Tensor, "dim channels height width"], in_chans: int
) -> Float[Tensor, "dim in_chans height width"]:
    """Make a first convolution's weights fit another number of input channels, as in timm.

    One channel gets the sum over the old ones, so that a gray image gives what its copy in every channel gave. Others
    repeat the old channels in turn, rescaled so that the sum over channels stays about the same.
    """
    channels = weight.shape[1]
    if in_chans == channels:
        return weight
    if in_chans == 1:
        return weight.float().sum(dim=1, keepdim=True).to(weight.dtype)
    repeated = weight.float().repeat(1, math.ceil(in_chans / channels), 1, 1)[:, :in_chans]
    return (repeated * (channels / in_chans)).to(weight.dtype)


def read_shapes(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Read from shapes the fields of a configuration, with `dim`, `hidden` (of the MLPs) and `patches` beside them."""
    local = {name.split(".")[1] for name in tensors if name.startswith("blocks.") and name.endswith(".gating_param")}
    found = {
        "dim": _length(tensors, "cls_token", 3, 2),
        "depth": len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}),
        "local_up_to_layer": len(local),
        "num_heads": _length(tensors, "blocks.0.attn.gating_param", 1, 0),
        "hidden": _length(tensors, "blocks.0.mlp.fc1.weight", 2, 0),
        "patch_size": _length(tensors, "patch_embed.proj.weight", 4, 3),
        "in_chans": _length(tensors, "patch_embed.proj.weight", 4, 1),
        "patches": _length(tensors, "pos_embed", 3, 1),
        "num_classes": _length(tensors, "head.weight", 2, 0) or 0,
    }
    return {name: length for name, length in found.items() if length is not None}


def recognize(tensors: Mapping[str, Tensor]) -> str | None:
    """Name the published variant whose width, heads, depth and patches a state dict has, or None."""
    return find_variant(read_shapes(tensors))


def infer_config(tensors: Mapping[str, Tensor], config: ConViTConfig) -> ConViTConfig:
    """Read from shapes what a file has other than its variant: classes, channels and a square image size."""
    found = read_shapes(tensors)
    changes = {name: found[name] for name in ("num_classes", "in_chans") if name in found}
    side = math.isqrt(found.get("patches", 0))
    if side > 0 and side**2 == found["patches"] != config.grid_size[0] * config.grid_size[1]:
        changes["img_size"] = side * config.patch_size
    return config.replace(**changes)


def check_config(config: ConViTConfig, tensors: Mapping[str, Tensor]) -> None:
    """Refuse by a `ValueError` a configuration that is not that of the tensors, before anything is built from it."""
    stated: dict[str, int] = {name: getattr(config, name) for name in ("dim", "depth", "num_heads", "num_classes")}
    stated["local_up_to_layer"] = min(config.local_up_to_layer, config.depth)
    stated["hidden"] = int(config.dim * config.mlp_ratio)
    if not any(name.startswith("patch_embed.backbone.") for name in tensors):
        stated |= {"patch_size": config.patch_size, "in_chans": config.in_chans}
    if config.use_pos_embed:
        stated["patches"] = config.grid_size[0] * config.grid_size[1]
    found = read_shapes(tensors)
    if config.local_up_to_layer == 0:
        del stated["num_heads"]  # which no shape shows then
    for name, number in stated.items():
        if found.get(name) != number:
            raise ValueError(f"it states {number} as {name}, but the tensors have {found.get(name, 'none')}")


def _length(tensors: Mapping[str, Tensor], name: str, dimensions: int, axis: int) -> int | None:
    tensor = tensors.get(name)
    return None if tensor is None or tensor.ndim != dimensions else tensor.shape[axis]


def _adapt_channels(adapted: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    name = "patch_embed.proj.weight"
    # behind a CNN the projection's channels are the CNN's, which nobody can adapt
    has_cnn = any(each.startswith("patch_embed.backbone.") for each in wanted)
    kernel, own = adapted.get(name), wanted.get(name)
    if kernel is None or own is None or has_cnn or kernel.ndim != 4 or kernel.shape[1] == 0:
        return
    if (kernel.shape[0], *kernel.shape[2:]) == (own.shape[0], *own.shape[2:]):
        adapted[name] = adapt_input_channels(kernel, own.shape[1])


def _adapt_head(adapted: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    weight, own = adapted.get("head.weight"), wanted.get("head.weight")
    if weight is not None and own is not None and weight.shape[0] == own.shape[0]:
        return
    for name in _HEAD:
        adapted.pop(name, None)
        if name in wanted:
            adapted[name] = wanted[name]


def _adapt_positions(adapted: dict[str, Tensor], config: ConViTConfig, source_grid: tuple[int, int] | None) -> None:
    positions = adapted.get("pos_embed")
    if positions is None or not config.use_pos_embed or positions.ndim != 3 or positions.numel() == 0:
        return
    if (positions.shape[0], positions.shape[2]) != (1, config.dim):
        return
    count = positions.shape[1]
    if source_grid is None:
        side = math.isqrt(count)
        source_grid = (side, side) if side**2 == count else config.grid_size
    adapted["pos_embed"] = resample_position_embedding(positions, source_grid, config.grid_size)


def _fitting(
    adapted: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source_name: str, *, strict: bool
) -> dict[str, Tensor]:
    """The tensors under the model's names and in its shapes; raises `ValueError` if they differ."""
    missing = [name for name in wanted if name not in adapted]
    extra = [name for name in adapted if name not in wanted]
    problems = [f"it lacks {_some(missing)}"] if missing else []
    problems += [f"it has {_some(extra)}, which the model does not have"] if extra else []
    if not strict:
        if not adapted.keys() & (wanted.keys() - set(_HEAD)):
            raise ValueError(f"{source_name} has none of the model's weights; {_remedy(adapted)}")
        if missing:
            _log.warning("%s lacks %s: left as the model had it", source_name, _some(missing))
        if extra:
            _log.warning("%s has %s, which the model does not have: left out", source_name, _some(extra))
        problems.clear()
    filled = {name: adapted.get(name, own) for name, own in wanted.items()}
    if not problems:
        shapes = {name: (_shape(filled[name]), _shape(own)) for name, own in wanted.items()}
        unlike = [name for name, (found, own) in shapes.items() if found != own]
        problems = ["{} is {}, but the model's is {}".format(name, *shapes[name]) for name in unlike[:1]]
    if problems:
        raise ValueError(f"{source_name} does not fit the model: {'; '.join(problems)}; {_remedy(adapted)}")
    return filled


def _remedy(tensors: Mapping[str, Tensor]) -> str:
    name = recognize(tensors)
    return (
        "create the model with the architecture and options that the weights were saved with"
        if name is None
        else f"the weights look like a {name} with its usual options: create that"
    )


def _some(names: list[str]) -> str:
    return first_few([textwrap.shorten(name, 80, placeholder="…") for name in names], _SHOWN)


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"
