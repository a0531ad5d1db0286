"""The parts around attention: patch embeddings, MLP, drop path and the block that joins them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from convit.model.attention import GatedPositionalSelfAttention, SelfAttention
from convit.model.config import ConViTConfig
from convit.model.shortcuts import is_untouched


class Embedding(nn.Module):
    """What every patch embedding tells of itself, by timm's names.

    Attributes:
        patch_size: (height, width) of a patch, pixels.
        img_size, grid_size, num_patches: (height, width) in pixels and (rows, columns) in patches that the model's
            position embedding is made for, and their number; None outside a model.
    """

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = (patch_size, patch_size)
        self.fit(None)

    def fit(self, config: ConViTConfig | None) -> None:
        """Take sizes over from a model's configuration."""
        self.img_size = None if config is None else (config.image_height, config.image_width)
        self.grid_size = None if config is None else config.grid_size
        self.num_patches = None if config is None else config.num_patches

    def resize(self, patch_size: int) -> None:
        """Cut patches of another size.

        Raises:
            ValueError: a hybrid backbone fixes it, or `proj` is adapted, hooked or exchanged.
        """
        was = self.patch_size[0]
        raise ValueError(f"patch_size is {patch_size}, but the hybrid backbone was built for {was}; create a new model")

    def feat_ratio(self, as_scalar: bool = True) -> int | tuple[int, int]:
        """Stride of the patches in pixels: one number, or (height, width)."""
        return self.patch_size[0] if as_scalar else self.patch_size


class PatchEmbedding(Embedding):
    """Cut an image into square patches of `patch_size` pixels and project each to a token of `dim` channels."""

    def __init__(self, patch_size: int, in_chans: int, dim: int) -> None:
        super().__init__(patch_size)
        self.proj = nn.Conv2d(in_chans, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch patches dim"]:
        """The patches in row-major order."""
        return self.proj(images).flatten(2).transpose(1, 2)

    def resize(self, patch_size: int) -> None:
        """Cut patches of another size, with a resampled kernel; see `Embedding.resize`."""
        if not is_untouched(self.proj, nn.Conv2d):
            raise ValueError(
                f"patch_size is {patch_size}, but patch_embed.proj is adapted, hooked or exchanged, so its kernel of "
                f"{self.patch_size[0]} can't be resampled; merge or remove what was added first"
            )
        self.patch_size = self.proj.kernel_size = self.proj.stride = (patch_size, patch_size)
        kernel = cast(nn.Parameter, self.proj.weight)
        self.proj.weight = in_place_of(kernel, resample_patch_kernel(kernel, patch_size))


class HybridEmbedding(Embedding):
    """Patches of a CNN's feature map instead of an image's pixels.

    Args:
        backbone: maps (batch, in_chans, height, width) to a feature map of a fixed stride (or to a list of them, of
            which the last is taken).
        patch_size: stride of the whole, pixels.
        in_chans: channels of the image.
        dim: channels of a token.

    Raises:
        ValueError: the backbone's stride does not divide `patch_size`.
    """

    def __init__(self, backbone: nn.Module, patch_size: int, in_chans: int, dim: int) -> None:
        super().__init__(patch_size)
        self.backbone = backbone
        channels, stride = _probe(backbone, in_chans, size=8 * patch_size)
        if patch_size % stride:
            raise ValueError(
                f"patch_size is {patch_size}, but the hybrid backbone has stride {stride}; choose a multiple of it"
            )
        self.proj = nn.Conv2d(channels, dim, kernel_size=patch_size // stride, stride=patch_size // stride)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch patches dim"]:
        """The patches in row-major order."""
        return self.proj(_last_map(self.backbone(images))).flatten(2).transpose(1, 2)


class Mlp(nn.Module):
    """Linear, GELU, linear on each token, with dropout after each linear layer in training."""

    def __init__(self, dim: int, hidden: int, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.drop1 = nn.Dropout(drop)
        self.fc2 = nn.Linear(hidden, dim)
        self.drop2 = nn.Dropout(drop)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """Transform each token by itself."""
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class DropPath(nn.Module):
    """Stochastic depth: in training, leave a residual branch out for a share `rate` of images and scale the others up.

    Source: "Deep Networks with Stochastic Depth", arXiv 1603.09382.

    Attributes:
        positions: where the images of this batch stand in a larger one, of `whole` images, that is computed in parts,
            or None. Then numbers are drawn for the larger batch, so that it does not matter how it was cut.
    """

    positions: Tensor | None

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate
        self.whole = 0
        self.positions = None  # no buffer, so that a model has the same buffers in and out of training

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """`x` itself outside training."""
        if not self.training or self.rate == 0.0:
            return x
        keep = x.new_empty(self.whole or x.shape[0], 1, 1).bernoulli_(1.0 - self.rate)
        if self.positions is not None:
            keep = keep[self.positions]
        return x * keep / (1.0 - self.rate)

    def extra_repr(self) -> str:
        """The rate, for printing."""
        return f"rate={self.rate:g}"


class Block(nn.Module):
    """A pre-norm transformer block: attention and MLP, each added to its input.

    Args:
        config: the model's configuration.
        index: place of the block, from 0; the first `config.local_up_to_layer` blocks use GPSA.
    """

    def __init__(self, config: ConViTConfig, index: int) -> None:
        super().__init__()
        self.is_local = index < config.local_up_to_layer
        dim, drops = config.dim, {"attn_drop": config.attn_drop_rate, "proj_drop": config.proj_drop_rate}
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn: nn.Module
        if self.is_local:
            self.attn = GatedPositionalSelfAttention(
                dim, config.num_heads, qkv_bias=config.qkv_bias, locality_strength=config.locality_strength, **drops
            )
        else:
            self.attn = SelfAttention(dim, config.num_heads, qkv_bias=config.qkv_bias, **drops)
        self.drop_path = DropPath(config.drop_path_rate * index / max(config.depth - 1, 1))
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio), config.proj_drop_rate)

    def forward(
        self, x: Float[Tensor, "batch tokens dim"], grid: tuple[int, int] | None = None, class_only: bool = False
    ) -> Float[Tensor, "batch queries dim"]:
        """Update the tokens; with `class_only` (blocks without GPSA), give the first alone, read from all of them.

        `grid` is the (rows, columns) of the patches; None for the model's own grid where it has as many, else a square.

        Raises:
            ValueError: a block with GPSA is given patches of neither without their grid.
        """
        normed = self.norm1(x)
        read = self.attn(normed, grid) if self.is_local else self.attn(normed, class_only=class_only)
        x = (x[:, :1] if class_only else x) + self.drop_path(read)
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def __prepare_scriptable__(self) -> Block:
        """What `torch.jit.script` asks of every part of a model."""
        raise TypeError(
            "TorchScript can't compile a ConViT's source; use torch.export.export(model, (images,)), or record a call "
            "with torch.jit.trace(model, images)"
        )

    def takes_shortcuts(self) -> bool:
        """Whether nobody can tell that some of its tokens are not computed, or that its layers are read, not called."""
        kinds = (Block, GatedPositionalSelfAttention, SelfAttention, Mlp, DropPath)
        return all(is_untouched(part, *kinds, nn.LayerNorm, nn.Linear, nn.GELU, nn.Dropout) for part in self.modules())


def wanted_blocks(indices: int | Sequence[int] | None, depth: int) -> list[int]:
    """Block indices in rising order: all (None), the last n (an int), or those named (negative: from the end).

    Raises:
        ValueError: an index or count outside the model's depth.

    >>> wanted_blocks(2, 12), wanted_blocks([0, -1], 12)
    ([10, 11], [0, 11])
    """
    if indices is None:
        return list(range(depth))
    if isinstance(indices, int):
        if not 1 <= indices <= depth:
            raise ValueError(f"the last {indices} blocks were asked for, but the model has {depth}")
        return list(range(depth - indices, depth))
    for index in indices:
        if not -depth <= index < depth:
            raise ValueError(
                f"block {index} was asked for, but the model has blocks 0 to {depth - 1} (or -{depth} to -1)"
            )
    if not indices:
        raise ValueError("no block was asked for; name at least one, or None for all")
    return sorted({index % depth for index in indices})


def prune(model: Any, chosen: list[int], *, prune_norm: bool, prune_head: bool) -> list[int]:
    """Drop what the maps of `chosen` blocks don't need, so that every parameter left gets a gradient; `config` follows.

    Blocks behind the last one go, and the class token where it joins behind it; with `prune_norm` the last norm, with
    `prune_head` head and pooling, which go anyway where they read a class token that goes. Gives `chosen`, rising
    indices, back.
    """
    depth, old = chosen[-1] + 1, model.config
    changes: dict[str, Any] = {"depth": depth}
    changes["drop_path_rate"] = old.drop_path_rate * (depth - 1) / max(old.depth - 1, 1)
    model.blocks = model.blocks[:depth]
    if depth <= old.local_up_to_layer:
        model.cls_token = None
        prune_head = prune_head or old.global_pool == "token"
    if prune_norm:
        model.norm = nn.Identity().train(model.norm.training)
    model.config = old.replace(**changes, **({"num_classes": 0, "global_pool": ""} if prune_head else {}))
    if prune_head:
        model.reset_classifier(0)
    return chosen


def fit_grid(modules: Iterable[nn.Module], config: ConViTConfig) -> None:
    """Tell a model's parts which grid of patches its configuration means."""
    for module in modules:
        if isinstance(module, Embedding):
            module.fit(config)
        elif isinstance(module, GatedPositionalSelfAttention | SelfAttention):
            module.grid_size = config.grid_size


def in_place_of(parameter: nn.Parameter, value: Tensor) -> nn.Parameter:
    """A parameter of another shape that follows `parameter`, frozen where that is."""
    return nn.Parameter(value.to(parameter), requires_grad=parameter.requires_grad)


def initialize_layers(modules: Iterable[nn.Module]) -> None:
    """Draw the weights of linear layers and set those of GPSA as in the authors' code; others keep PyTorch's."""
    layers = list(modules)
    for module in layers:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in layers:
        if isinstance(module, GatedPositionalSelfAttention):
            module.initialize_locality()


def to_image_layout(
    patches: Float[Tensor, "batch patches dim"], grid: tuple[int, int]
) -> Float[Tensor, "batch dim grid_height grid_width"]:
    """Patches in row-major order as a feature map of (rows, columns)."""
    return patches.transpose(1, 2).unflatten(2, grid).contiguous()


@torch.no_grad()
def resample_patch_kernel(
    weight: Float[Tensor, "dim channels old old"], patch_size: int
) -> Float[Tensor, "dim channels new new"]:
    """A patch kernel for another patch size that gives resized patches nearly the old tokens.

    Source: FlexiViT, arXiv 2212.08013, Sec. 3.4 (pseudo-inverse of the bilinear resize).
    """
    old = weight.shape[-1]
    basis = torch.eye(old * old, device=weight.device).reshape(-1, 1, old, old)
    resize = F.interpolate(basis, size=(patch_size, patch_size), mode="bilinear", antialias=True).flatten(1).T
    solved = torch.linalg.pinv(resize.T) @ weight.float().flatten(2).transpose(1, 2)
    return solved.transpose(1, 2).unflatten(2, (patch_size, patch_size)).to(weight.dtype)


@torch.no_grad()
def _probe(backbone: nn.Module, in_chans: int, size: int) -> tuple[int, int]:
    """Channels and stride of a CNN's last feature map, found by running it once on zeros."""
    training = backbone.training
    parameter = next(backbone.parameters(), None)
    device = None if parameter is None else parameter.device
    last = _last_map(backbone.eval()(torch.zeros(1, in_chans, size, size, device=device)))
    backbone.train(training)
    return last.shape[1], size // last.shape[-1]


def _last_map(features: Tensor | Sequence[Tensor]) -> Tensor:
    return features if isinstance(features, Tensor) else features[-1]
