"""ConViT: gated positional self-attention first, a class token and ordinary self-attention last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from convit.model import kernels
from convit.model.attention import GatedPositionalSelfAttention, SelfAttention
from convit.model.config import ConViTConfig, GlobalPool, check_divisible
from convit.model.layers import (
    Block,
    Embedding,
    HybridEmbedding,
    PatchEmbedding,
    fit_grid,
    in_place_of,
    initialize_layers,
    prune,
    to_image_layout,
    wanted_blocks,
)
from convit.model.positional import resample_position_embedding, stretched
from convit.model.shortcuts import is_recorded, is_untouched, takes_shortcuts

Grid = tuple[int, int]


class ConViT(nn.Module):
    """ConViT, a vision transformer with soft convolutional inductive biases.

    Source: d'Ascoli et al. 2021, arXiv 2103.10697. Parameter names are those of the authors' and timm's files.

    With `global_pool="token"` only the class token is read at the end, so `forward` computes the last block for that
    token alone, unless a hook, an adapter or another class of layer in that block or in `norm` could tell.
    `forward_features` and `set_attention("plain")` compute every token.

    Args:
        config: the configuration.
        hybrid_backbone: a CNN whose feature map replaces the image under the patch embedding; see `HybridEmbedding`.
        initialize: draws the initial weights; False saves that time where others are loaded next.

    Attributes:
        config: as given; follows `reset_classifier` and `set_input_size`.
        pretrained_cfg: what is known of the weights: preprocessing, classes, source; set by `create_model`.

    >>> model = ConViT(ConViTConfig(depth=3, local_up_to_layer=2, num_classes=10)).eval()
    >>> model(torch.zeros(2, 3, 224, 224)).shape
    torch.Size([2, 10])
    >>> model(torch.zeros(1, 3, 112, 448)).shape  # any size that patches tile
    torch.Size([1, 10])
    """

    def __init__(
        self, config: ConViTConfig, hybrid_backbone: nn.Module | None = None, *, initialize: bool = True
    ) -> None:
        super().__init__()
        self.config = config
        self.num_features = self.embed_dim = self.head_hidden_size = config.dim
        self.in_chans, self.use_pos_embed = config.in_chans, config.use_pos_embed
        self.local_up_to_layer, self.locality_strength = config.local_up_to_layer, config.locality_strength
        self.grad_checkpointing = False
        self.plain = False
        self.pretrained_cfg: dict[str, Any] = {}
        sizes = (config.patch_size, config.in_chans, config.dim)
        self.patch_embed: nn.Module = (
            PatchEmbedding(*sizes) if hybrid_backbone is None else HybridEmbedding(hybrid_backbone, *sizes)
        )
        token = torch.zeros(1, 1, config.dim)  # kept in files, also where no block sees it
        self.cls_token: nn.Parameter | None = nn.Parameter(token, requires_grad=config.has_class_token)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.num_patches, config.dim)) if config.use_pos_embed else None
        self.pos_drop = nn.Dropout(config.pos_drop_rate)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.norm: nn.Module = nn.LayerNorm(config.dim, eps=1e-6)
        self.head_drop = nn.Dropout(config.drop_rate)
        self.head = self._make_head()
        self._fit_grid()
        if initialize:
            self._initialize()

    @property
    def num_classes(self) -> int:
        """Width of the head; 0 if the model returns embeddings."""
        return self.config.num_classes

    @property
    def default_cfg(self) -> dict[str, Any]:
        """`pretrained_cfg` under timm's older name."""
        return self.pretrained_cfg

    @default_cfg.setter
    def default_cfg(self, card: dict[str, Any]) -> None:
        """Replaces `pretrained_cfg`."""
        self.pretrained_cfg = card

    @property
    def global_pool(self) -> GlobalPool:
        """What the head reads: "token", "avg" or "" (every token)."""
        return self.config.global_pool

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """Channels ("num_chs"), stride in pixels ("reduction") and name ("module") of each block's feature map."""
        width, stride = self.config.dim, self.config.patch_size
        return [
            {"num_chs": width, "reduction": stride, "module": f"blocks.{index}"} for index in range(self.config.depth)
        ]

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, " batch *rest"]:
        """Classify, or embed where `num_classes` is 0.

        Args:
            images: normalized images of any height and width that the patch size divides (of any size with
                `dynamic_img_pad`); sizes may change from call to call.

        Returns:
            Logits (batch, classes), embeddings (batch, dim), or one row per token where `global_pool` is "".

        Raises:
            ValueError: the patch size does not divide the images' height or width.
        """
        class_only = self.global_pool == "token" and not self.plain and not is_recorded(images)
        class_only = class_only and is_untouched(self.norm, nn.LayerNorm) and takes_shortcuts(self.blocks[-1])
        return self.forward_head(self.norm(self._encode(images, class_only=class_only)))

    def forward_features(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """Every token after the last norm: class token, then patches row by row; raises the errors of `forward`."""
        return self.norm(self._encode(images, class_only=False))

    def forward_head(
        self, tokens: Float[Tensor, "batch tokens dim"], pre_logits: bool = False
    ) -> Float[Tensor, " batch *rest"]:
        """Pool and classify what `forward_features` gave; with `pre_logits`, stop before the linear layer."""
        if self.global_pool == "token":
            tokens = tokens[:, 0]
        elif self.global_pool == "avg":
            tokens = tokens[:, self.num_prefix_tokens :].mean(dim=1)
        tokens = self.head_drop(tokens)
        return tokens if pre_logits else self.head(tokens)

    @property
    def num_prefix_tokens(self) -> int:
        """Tokens before the patches in what `forward_features` gives: 1 for the class token, else 0."""
        return int(self.config.has_class_token)

    def forward_intermediates(
        self,
        images: Float[Tensor, "batch channels height width"],
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        *,
        return_prefix_tokens: bool = False,
    ) -> Any:
        """What chosen blocks give, and the model's own features, with timm's arguments.

        Args:
            images: as in `forward`.
            indices: blocks to keep: None for all, n for the last n, or their indices (negative ones count from the
                end).
            norm: applies the last norm to each.
            stop_early: computes no block after the last one kept; the second result is then that block's tokens.
            output_fmt: "NCHW" for maps (batch, dim, rows, columns), "NLC" for (batch, patches, dim).
            intermediates_only: leaves the second result out.
            return_prefix_tokens: pairs each map with its prefix tokens (batch, 1, dim); (batch, 0, dim) before the
                class token joins.

        Returns:
            The list of maps with `intermediates_only`, else (features after the last norm, list of maps).

        Raises:
            ValueError: an index or format that does not exist, or images that `forward` refuses.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise ValueError(f"output_fmt is {output_fmt!r}, but must be 'NCHW' or 'NLC'")
        wanted = wanted_blocks(indices, len(self.blocks))
        tokens, grid = self._embed(images)
        intermediates: list[Any] = []
        for index, block in enumerate(self.blocks):
            tokens = self._step(index, block, tokens, grid)
            if index in wanted:
                kept = self.norm(tokens) if norm else tokens
                prefix, patches = kept[:, : -grid[0] * grid[1]], kept[:, -grid[0] * grid[1] :]
                patches = to_image_layout(patches, grid) if output_fmt == "NCHW" else patches
                intermediates.append((patches, prefix) if return_prefix_tokens else patches)
            if stop_early and index == max(wanted):
                break
        if intermediates_only:
            return intermediates
        return self.norm(tokens), intermediates

    def _encode(self, images: Tensor, *, class_only: bool) -> Tensor:
        tokens, grid = self._embed(images)
        last = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            tokens = self._step(index, block, tokens, grid, class_only=class_only and index == last)
        return tokens

    def _embed(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Patch tokens with their positions, and the (rows, columns) of the grid."""
        size = self.config.patch_size
        if self.config.dynamic_img_pad:
            images = F.pad(images, (0, -images.shape[-1] % size, 0, -images.shape[-2] % size))
        check_divisible(images.shape[-2], images.shape[-1], size)
        grid = (images.shape[-2] // size, images.shape[-1] // size)
        # channels last from here on: otherwise every residual sum keeps the convolution's layout and every norm copies
        tokens = self.patch_embed(images).contiguous()
        if self.pos_embed is not None:
            tokens = tokens + stretched(self.pos_embed, self.config.grid_size, grid)
        return self.pos_drop(tokens), grid

    def _step(self, index: int, block: nn.Module, tokens: Tensor, grid: Grid, *, class_only: bool = False) -> Tensor:
        """One block, after the class token joined where it is its turn."""
        if self.cls_token is not None and index == self.config.local_up_to_layer:
            tokens = torch.cat((self.cls_token.to(tokens.dtype).expand(tokens.shape[0], -1, -1), tokens), dim=1)
        if self.grad_checkpointing and torch.is_grad_enabled():
            return cast(Tensor, checkpoint(block, tokens, grid, class_only, use_reentrant=False))
        return block(tokens, grid, class_only)

    def set_attention(self, form: str) -> None:
        """Choose the form of attention everywhere in the model.

        Args:
            form: "fused" (as built: PyTorch's fused attention and the two position factors), "triton" (GPSA as one
                kernel of our own, on CUDA GPUs; `convit.optimization.fastest_attention` times both) or "plain" (the
                paper's equations as written, which alone have second derivatives and forward mode everywhere). Training
                with attention dropout takes the plain form whatever is chosen.

        Raises:
            ValueError: `form` is none of these, or "triton" can't run here.
        """
        if form not in ("fused", "triton", "plain"):
            raise ValueError(f"the attention form is {form!r}, but must be 'fused', 'triton' or 'plain'")
        if form == "triton":
            kernels.check_runs(next(self.parameters()).device, self.config.dim // self.config.num_heads)
        self.plain = form == "plain"
        for module in self.modules():
            if isinstance(module, GatedPositionalSelfAttention | SelfAttention):
                module.plain = self.plain
            if isinstance(module, GatedPositionalSelfAttention):
                module.kernel = form == "triton"

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the tokens between blocks for the backward pass and compute the rest again: less memory, slower."""
        self.grad_checkpointing = enable

    def set_input_size(self, img_size: int | tuple[int, int] | None = None, patch_size: int | None = None) -> None:
        """Make the position embedding (and the patch kernel) fit another image (and patch) size for good.

        `forward` takes other image sizes by itself; this saves the resampling at each call and fixes what a saved
        file holds. Sizes are in pixels, the image's one number or (height, width); None keeps one. The kernel is
        resampled as in FlexiViT.

        Raises:
            ValueError: the patch size does not divide the image size, or a hybrid backbone fixes the patch size.
        """
        old = self.config
        new = old.replace(img_size=img_size or old.img_size, patch_size=patch_size or old.patch_size)
        if new.patch_size != old.patch_size:
            cast(Embedding, self.patch_embed).resize(new.patch_size)
        if self.pos_embed is not None:
            resampled = resample_position_embedding(self.pos_embed.data, old.grid_size, new.grid_size)
            self.pos_embed = in_place_of(self.pos_embed, resampled)
        self.config = new
        self._fit_grid()

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop for good what chosen blocks (as in `forward_intermediates`) don't need; see `layers.prune`.

        Raises:
            ValueError: a block that does not exist.
        """
        return prune(self, wanted_blocks(indices, len(self.blocks)), prune_norm=prune_norm, prune_head=prune_head)

    def reset_classifier(self, num_classes: int, global_pool: GlobalPool | None = None) -> None:
        """A fresh, trainable head for `num_classes` classes (0: none, embeddings), and another pooling if one is given.

        Raises:
            ValueError: `global_pool` is unknown, or "token" where the model has no class token.
        """
        self.config = self.config.replace(
            num_classes=num_classes, global_pool=self.global_pool if global_pool is None else global_pool
        )
        self.head = self._make_head().to(next(self.parameters())).train(self.head.training)
        initialize_layers([self.head])

    def get_classifier(self) -> nn.Module:
        """The head: a linear layer, or an identity where `num_classes` is 0."""
        return self.head

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay should spare (besides all 1-d ones)."""
        return {"pos_embed", "cls_token"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that sort parameter names into stem, blocks and norm, for layer-wise learning rates; timm's format.

        The blocks are the coarse groups already.
        """
        del coarse
        return {
            "stem": r"^cls_token|pos_embed|patch_embed",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }

    def _fit_grid(self) -> None:
        self.num_patches = self.config.num_patches
        fit_grid((self.patch_embed, *self.blocks.modules()), self.config)

    def _make_head(self) -> nn.Module:
        return nn.Linear(self.num_features, self.num_classes) if self.num_classes else nn.Identity()

    def _initialize(self) -> None:
        """Weights as in the authors' code; the patch convolution keeps PyTorch's."""
        for embedding in (self.cls_token, self.pos_embed):
            if embedding is not None:
                nn.init.trunc_normal_(embedding, std=0.02)
        initialize_layers((*self.blocks.modules(), self.head))
