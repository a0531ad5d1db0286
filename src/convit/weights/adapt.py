"""Make a state dict fit a model that differs from the one it was saved from: input channels, classes, image size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from convit.model.positional import resample_position_embedding
from convit.model.variants import VARIANTS

if TYPE_CHECKING:
    from convit.model import ConViT, ConViTConfig

_HEAD = ("head.weight", "head.bias")
_SHOWN = 4  # names in one line of an error


def adapt_weights(
    tensors: Mapping[str, Tensor],
    model: ConViT,
    *,
    source_grid: tuple[int, int] | None = None,
    source_name: str = "the file",
) -> dict[str, Tensor]:
    """Make weights fit a model, so that a strict `load_state_dict` takes them.

    - Other input channels: the first convolution's weights are summed (1 channel) or repeated and rescaled, as in timm.
    - Another number of classes: the head is left as the model has it, freshly initialized; with none it is dropped.
    - Another patch grid: the position embedding is resampled. That includes grids of equal size but another shape: 14 x
      14 and 7 x 28 both have 196 patches, and copying would put every patch in a wrong place.

    Args:
        tensors: a state dict with timm's or the authors' names.
        model: the model to load it into.
        source_grid: (rows, columns) of patches that the position embedding was trained for; None takes a square where
            the number is one, else the model's own.
        source_name: what to call the weights in errors.

    Returns:
        Exactly the model's names, with its shapes.

    Raises:
        ValueError: names are missing or too many, or a shape differs otherwise.
    """
    adapted = dict(tensors)
    wanted = model.state_dict()
    _adapt_channels(adapted, wanted)
    _adapt_head(adapted, wanted)
    _adapt_positions(adapted, model.config, source_grid)
    _check_fit(adapted, wanted, source_name)
    return adapted


def adapt_input_channels(
    weight: Float[Tensor, "dim channels height width"], in_chans: int
) -> Float[Tensor, "dim in_chans height width"]:
    """Make a first convolution's weights fit another number of input channels, as timm's users know it.

    One channel gets the sum over the old ones, so that a gray image gives what its copy in every channel gave. Others
    repeat the old channels in turn, rescaled so that the sum over channels stays about the same.

    The dtype stays; where the channels agree, `weight` itself is given.
    """
    channels = weight.shape[1]
    if in_chans == channels:
        return weight
    if in_chans == 1:
        return weight.float().sum(dim=1, keepdim=True).to(weight.dtype)
    repeated = weight.float().repeat(1, math.ceil(in_chans / channels), 1, 1)[:, :in_chans]
    return (repeated * (channels / in_chans)).to(weight.dtype)


def recognize(tensors: Mapping[str, Tensor]) -> str | None:
    """Name the published variant whose width, heads and depth a state dict has, or None."""
    token, gate, kernel = (
        tensors.get(name) for name in ("cls_token", "blocks.0.attn.gating_param", "patch_embed.proj.weight")
    )
    if token is None or gate is None or kernel is None or kernel.ndim != 4:
        return None
    blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    local = {name.split(".")[1] for name in tensors if name.endswith(".attn.gating_param")}
    found = (token.shape[-1], gate.shape[0], len(blocks), len(local), kernel.shape[-1])
    for name, variant in VARIANTS.items():
        config = variant.config
        if found == (config.dim, config.num_heads, config.depth, config.local_up_to_layer, config.patch_size):
            return name
    return None


def infer_config(tensors: Mapping[str, Tensor], config: ConViTConfig) -> ConViTConfig:
    """Read from shapes what a file has other than its variant: classes, channels and a square image size."""
    head, kernel, positions = (tensors.get(name) for name in ("head.weight", "patch_embed.proj.weight", "pos_embed"))
    changes: dict[str, int] = {"num_classes": 0 if head is None else head.shape[0]}
    if kernel is not None and kernel.ndim == 4:
        changes["in_chans"] = kernel.shape[1]
    if positions is not None and positions.ndim == 3:
        side = math.isqrt(positions.shape[1])
        if side**2 == positions.shape[1] and side**2 != config.grid_size[0] * config.grid_size[1]:
            changes["img_size"] = side * config.patch_size
    return config.replace(**changes)


def _adapt_channels(adapted: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    name = "patch_embed.proj.weight"
    # behind a CNN the projection's channels are the CNN's, which nobody can adapt
    has_cnn = any(each.startswith("patch_embed.backbone.") for each in wanted)
    if name in adapted and name in wanted and adapted[name].ndim == 4 and not has_cnn:
        adapted[name] = adapt_input_channels(adapted[name], wanted[name].shape[1])


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
    if positions is None or positions.ndim != 3 or not config.use_pos_embed:
        return
    count = positions.shape[1]
    if source_grid is None:
        side = math.isqrt(count)
        source_grid = (side, side) if side**2 == count else config.grid_size
    adapted["pos_embed"] = resample_position_embedding(positions, source_grid, config.grid_size)


def _check_fit(adapted: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source_name: str) -> None:
    missing = [name for name in wanted if name not in adapted]
    extra = [name for name in adapted if name not in wanted]
    problems = [f"it lacks {_some(missing)}"] if missing else []
    problems += [f"it has {_some(extra)}, which the model does not have"] if extra else []
    if not problems:
        shapes = {name: (_shape(adapted[name]), _shape(own)) for name, own in wanted.items()}
        unlike = [
            f"{name} is {found}, but the model's is {own}" for name, (found, own) in shapes.items() if found != own
        ]
        problems = unlike[:1]
    if problems:
        raise ValueError(f"{source_name} does not fit the model: {'; '.join(problems)}; {_remedy(adapted)}")


def _remedy(tensors: Mapping[str, Tensor]) -> str:
    name = recognize(tensors)
    return (
        "create the model with the architecture and options that the weights were saved with"
        if name is None
        else f"the weights look like a {name} with its usual options: create that"
    )


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"
