"""Images in, vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from convit.images.opening import ImageSource
from convit.inference.options import RunKeywords, RunOptions, check_kind, layer_of
from convit.inference.predicting import ImagePredictor, Row
from convit.output.rows import Embedding

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8


class Embedder(ImagePredictor[Embedding]):
    """Turns images into vectors: opens them safely and runs the model in batches.

    Args:
        model: as in `Classifier`; a module needs the methods of `ConViT` that the kind reads.
        weights: local file or folder to load instead of published weights.
        kind: what to give for each image:
            "pooled" - one vector (dim,), what the head reads; equal to `num_classes=0` in timm;
            "pre_logits" - the same through `forward_head(pre_logits=True)`, computing every token;
            "tokens" - (tokens, dim) after the last norm: the class token, then the patches row by row;
            "patches" - (patches, dim), those tokens without the class token;
            "layer:N" - (patches, dim), the patch tokens that block N gives (from 0), before the last norm. int8 on a
            CPU gives none of these.
        normalize: whether every vector is scaled to length 1.
        options: as in `Classifier`; the result is float32 in every precision.
        changes: as in `Classifier`.

    Attributes:
        name, device, precision, batch_size, workers, kind, normalize: as chosen.

    Raises:
        ValueError: an option is out of range, the model's name is unknown, or the model has no such block.
        TypeError: the module cannot give the kind, or there is no such option.
        FileNotFoundError, OSError: the weights cannot be found or fetched; see `convit.weights.create_model`.

    Examples:
        >>> import numpy as np
        >>> from convit.model import ConViT, ConViTConfig
        >>> model = ConViT(ConViTConfig(depth=2, local_up_to_layer=1, num_classes=3, img_size=32, patch_size=8))
        >>> Embedder(model, kind="tokens")([np.zeros((40, 50, 3), np.uint8)] * 3).shape
        (3, 17, 192)
    """

    def __init__(
        self,
        model: str | nn.Module | None = None,
        *,
        weights: str | Path | None = None,
        kind: str = "pooled",
        normalize: bool = False,
        options: RunOptions | None = None,
        **changes: Unpack[RunKeywords],
    ) -> None:
        check_kind(kind)
        # without a head the model computes its last block for the class token alone
        super().__init__(model, weights, options, num_classes=0, **changes)
        self.kind = kind
        self.normalize = normalize
        self._check_model()

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image's embedding: (dim,) or (tokens, dim); found by running the model once."""
        dtype = torch.uint8 if getattr(self.model, "takes_uint8", False) else self.dtype
        with torch.inference_mode():
            (values,) = self._forward(
                torch.zeros(1, *self.transform.settings.input_size, dtype=dtype, device=self.device)
            )
        return tuple(values.shape[1:])

    def __call__(self, source: ImageSource | Sequence[ImageSource]) -> Float32[np.ndarray, "..."]:
        """Embed one image, or a list or tuple of them.

        Args:
            source: as in a call of a `Classifier`, with the same errors.

        Returns:
            An array of `shape`; for a list, (images, *shape).
        """
        found = [row.outputs[0] for row in self._read_all(source) if row.outputs is not None]
        if not isinstance(source, list | tuple):
            return found[0]
        return np.stack(found) if found else np.empty((0, *self.shape), dtype=np.float32)

    def _result(self, row: Row) -> Embedding:
        values = None if row.outputs is None else row.outputs[0]
        return Embedding(row.name, values, None if row.error is None else str(row.error))

    def _forward(
        self, images: Float[Tensor, "batch channels height width"] | UInt8[Tensor, "batch channels height width"]
    ) -> tuple[Tensor]:
        values = read_embedding(self.model, images, self.kind).float()
        return (nn.functional.normalize(values, dim=-1) if self.normalize else values,)

    def _check_model(self) -> None:
        model, layer = self.model, layer_of(self.kind)
        needed = "forward_features" if layer is None else "forward_intermediates"
        if not hasattr(model, needed):
            raise TypeError(f"the {type(model).__name__} has no {needed}, which kind={self.kind!r} reads; use a ConViT")
        depth = len(getattr(model, "blocks", ()))
        if layer is not None and layer >= depth:
            raise ValueError(f"kind is {self.kind!r}, but the model has {depth} blocks, layer:0 to layer:{depth - 1}")
        if self.kind in ("pooled", "pre_logits") and getattr(model, "global_pool", None) == "":
            raise ValueError(f"kind is {self.kind!r}, but the model does not pool (global_pool=''); use kind='tokens'")


def read_embedding(
    model: Any,
    images: Float[Tensor, "batch channels height width"] | UInt8[Tensor, "batch channels height width"],
    kind: str,
) -> Float[Tensor, "batch *tokens dim"]:
    """Compute one kind of embedding; see `Embedder` for the kinds."""
    layer = layer_of(kind)
    if layer is not None:
        return model.forward_intermediates(
            images, indices=[layer], output_fmt="NLC", stop_early=True, intermediates_only=True
        )[0]
    if kind == "pooled" and getattr(model, "num_classes", None) == 0:
        return model(images)
    tokens = model.forward_features(images)
    if kind == "tokens":
        return tokens
    if kind == "patches":
        return tokens[:, getattr(model, "num_prefix_tokens", 1) :]
    return model.forward_head(tokens, pre_logits=True)
