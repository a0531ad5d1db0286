"""Images in, vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from jaxtyping import Float32

from convit.images.opening import ImageSource
from convit.inference.options import RunKeywords, RunOptions, check_kind
from convit.inference.predicting import ImagePredictor, Row
from convit.output.rows import Embedding

if TYPE_CHECKING:
    from torch import nn


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
        self._runner.check(kind)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image's embedding: (dim,) or (tokens, dim); found by running the model once."""
        channels, height, width = self.transform.settings.input_size
        (values,) = self._forward([np.zeros((height, width, channels), np.uint8)])
        return tuple(values.shape[1:])

    @property
    def identity(self) -> dict[str, Any]:
        """See `Predictor.identity`."""
        return {**super().identity, "kind": self.kind, "normalize": self.normalize}

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

    def _forward(self, pixels: list[Any]) -> tuple[Float32[np.ndarray, "batch ..."]]:
        values = self._runner.compute(pixels, self.kind)
        if self.normalize:
            values = values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)
        return (values,)
