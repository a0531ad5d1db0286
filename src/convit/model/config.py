"""What a ConViT is made of: one frozen configuration that travels as JSON."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Literal

GlobalPool = Literal["", "token", "avg"]
_LARGEST, _DEEPEST = 2**20, 1000  # far above any model's numbers; a damaged file may say anything
_WHOLE_NUMBERS = {  # and the least and the most that each may be
    "patch_size": (1, _LARGEST),
    "in_chans": (1, _LARGEST),
    "embed_dim": (1, _LARGEST),
    "depth": (1, _DEEPEST),
    "num_heads": (1, _LARGEST),
    "num_classes": (0, _LARGEST),
    "local_up_to_layer": (0, _LARGEST),
}


@dataclass(frozen=True)
class ConViTConfig:
    """Every choice that fixes a ConViT's parameters and its computation.

    The names are timm's, so that keyword arguments of `create_model` mean the same in both.

    Attributes:
        img_size: image size in pixels that the position embedding is made for: one number (square) or (height,
            width). The model accepts other sizes too, see `ConViT.forward`.
        patch_size: side of a square patch, pixels.
        in_chans: channels of an image.
        num_classes: width of the linear head; 0 leaves the head out and the model returns embeddings.
        global_pool: what the head reads: the class token ("token"), the mean of the patch tokens ("avg") or every
            token ("").
        embed_dim: width **per head**, as in timm; the model's width `dim` is `embed_dim * num_heads`.
        depth: number of blocks.
        num_heads: attention heads in each block.
        mlp_ratio: hidden width of the MLP over `dim`.
        qkv_bias: adds biases to queries, keys and values (to `qk` and `v` in GPSA).
        drop_rate: dropout before the head, in [0, 1).
        pos_drop_rate: dropout after the position embedding, in [0, 1).
        proj_drop_rate: dropout after attention's projection and in the MLP, in [0, 1).
        attn_drop_rate: dropout on the attention matrix, in [0, 1); above 0, training takes the plain path, which
            builds that matrix.
        drop_path_rate: stochastic depth of the last block, in [0, 1), rising linearly from 0 at the first.
        local_up_to_layer: number of leading blocks with gated positional self-attention; the class token joins after
            them.
        locality_strength: how narrow the heads' initial convolution is (paper Eq. 7's alpha).
        use_pos_embed: adds a learned absolute position embedding to the patches.
        dynamic_img_pad: pads images on the right and at the bottom to a multiple of the patch size instead of
            refusing them.
    """

    img_size: int | tuple[int, int] = 224
    patch_size: int = 16
    in_chans: int = 3
    num_classes: int = 1000
    global_pool: GlobalPool = "token"
    embed_dim: int = 48
    depth: int = 12
    num_heads: int = 4
    mlp_ratio: float = 4.0
    qkv_bias: bool = False
    drop_rate: float = 0.0
    pos_drop_rate: float = 0.0
    proj_drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    local_up_to_layer: int = 10
    locality_strength: float = 1.0
    use_pos_embed: bool = True
    dynamic_img_pad: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "img_size", _as_size(self.img_size))
        for name, (least, most) in _WHOLE_NUMBERS.items():
            if not _lies_in(value := getattr(self, name), Integral, least, most):
                rule = f"a whole number of at least {least} and at most {most:,}"
                raise ValueError(f"{name} is {_shown(value)}, but must be {rule}")
        for name in ("drop_rate", "pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate"):
            if not _lies_in(value := getattr(self, name), Real, 0, math.nextafter(1, 0)):
                raise ValueError(f"{name} is {_shown(value)}, but must lie in [0, 1)")
        for name in ("mlp_ratio", "locality_strength"):
            if not _lies_in(value := getattr(self, name), Real, 0, _LARGEST):
                raise ValueError(f"{name} is {_shown(value)}, but must lie in [0, {_LARGEST:,}]")
        if self.global_pool not in ("", "token", "avg"):
            pool = _shown(self.global_pool)
            raise ValueError(f"global_pool is {pool}, but must be 'token', 'avg' or '' (every token)")
        if self.global_pool == "token" and not self.has_class_token:
            # The authors' code pools patch 0 here without a word.
            raise ValueError(
                f"local_up_to_layer is {self.local_up_to_layer} with depth {self.depth}, so no block sees a class "
                "token and global_pool='token' has nothing to read; use global_pool='avg', or fewer local layers"
            )
        if not self.dynamic_img_pad:
            check_divisible(self.image_height, self.image_width, self.patch_size)

    @property
    def image_height(self) -> int:
        """Height of `img_size`, pixels."""
        return _as_size(self.img_size)[0]

    @property
    def image_width(self) -> int:
        """Width of `img_size`, pixels."""
        return _as_size(self.img_size)[1]

    @property
    def dim(self) -> int:
        """Width of a token."""
        return self.embed_dim * self.num_heads

    @property
    def has_class_token(self) -> bool:
        """Whether at least one block follows the local ones, so that a class token takes part."""
        return self.local_up_to_layer < self.depth

    @property
    def grid_size(self) -> tuple[int, int]:
        """(rows, columns) of patches at `img_size`, padded up where `dynamic_img_pad` allows it."""
        return -(-self.image_height // self.patch_size), -(-self.image_width // self.patch_size)

    @property
    def num_patches(self) -> int:
        """Patches of that grid."""
        return self.grid_size[0] * self.grid_size[1]

    def replace(self, **changes: Any) -> ConViTConfig:
        """A copy with some fields changed.

        Raises:
            ValueError: a value is out of range.
            TypeError: a name is not a field; the message lists the fields.
        """
        known = {field.name for field in fields(self)}
        for name in changes:
            if name not in known:
                raise TypeError(f"{_shown(name)} is not a ConViT option; there are: {', '.join(sorted(known))}")
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dict that `json.dumps` takes; `from_dict` reverses it."""
        return {**asdict(self), "img_size": list(_as_size(self.img_size))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ConViTConfig:
        """The configuration that `to_dict` wrote; absent fields take their defaults.

        Raises:
            ValueError: a value is out of range.
            TypeError: a key is not a field.

        >>> ConViTConfig.from_dict({"num_heads": 9}).dim
        432
        """
        given = {name: value for name, value in values.items() if value or name != "stem_widths"}  # [] in earlier files
        return cls().replace(**{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})


def _as_size(img_size: int | tuple[int, int] | list[int]) -> tuple[int, int]:
    sides = tuple(img_size) if isinstance(img_size, Sequence) else (img_size, img_size)
    if len(sides) != 2 or not all(_lies_in(side, Integral, 1, _LARGEST) for side in sides):
        given = _shown(img_size)
        raise ValueError(f"img_size is {given}, but must be a side or (height, width) of 1 to {_LARGEST:,} pixels")
    return int(sides[0]), int(sides[1])


def _lies_in(value: Any, kind: type[Any], least: float, most: float) -> bool:
    return isinstance(value, kind) and bool(least <= value <= most)


def _shown(value: object) -> str:
    """A value of any size and depth, as an error may name it."""
    return reprlib.repr(value)[:80]


def check_divisible(height: int, width: int, patch_size: int) -> None:
    """Refuse an image that patches do not tile.

    Raises:
        ValueError: `height` or `width` (pixels) is not a positive multiple of `patch_size`.
    """
    if height < 1 or width < 1 or height % patch_size or width % patch_size:
        nearest = [patch_size * max(1, round(side / patch_size)) for side in (height, width)]
        raise ValueError(
            f"an image of {height} x {width} pixels (height x width) is not tiled by patches of {patch_size} pixels; "
            f"take multiples of {patch_size}, such as {nearest[0]} x {nearest[1]}; a model created "
            "with dynamic_img_pad=True pads images instead"
        )
