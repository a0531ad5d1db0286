"""Images in, labels out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np

from convit.images.opening import ImageSource
from convit.inference.options import RunKeywords, RunOptions
from convit.inference.predicting import ImagePredictor, Row
from convit.output.rows import Classification, Prediction
from convit.weights.labels import numbered_classes, temperature_of

if TYPE_CHECKING:
    from torch import nn


class Classifier(ImagePredictor[Classification]):
    """Labels images: opens them safely, runs the model in batches, names the likeliest classes.

    Args:
        model: name of a weight set or variant ("convit_base.fb_in1k"); a folder that `convit export` wrote, which runs
            in the file's own runtime; or a module that gives logits, which is put into evaluation mode. `None`: the
            model that `weights` describes, else "convit_base.fb_in1k".
        weights: local file or folder to load instead of published weights.
        top_k: how many classes to give, best first; at most as many as the model knows.
        options: how to run, see `RunOptions`; `None` for its defaults.
        changes: fields of `RunOptions` to take instead of those in `options`: device, precision, batch_size, workers,
            apply_exif, img_size, crop_pct, fast_decode, compile, calibration.

    Attributes:
        name, device, precision, batch_size, workers: as chosen.
        labels: name of each class, by index; "class 17" where the model brings no names.
        temperature: what logits are divided by before the softmax: 1, or what was fitted for these weights, so that the
            model is as sure as it is right (`convit evaluate --calibrate`). The model's own output stays as it is.
        top_k: as given, cut to the number of classes.

    Raises:
        ValueError: an option is out of range, the model's name is unknown, or the model has no classes.
        TypeError: there is no such option.
        FileNotFoundError, OSError: the weights cannot be found or fetched; see `convit.weights.create_model`.

    Examples:
        >>> import numpy as np
        >>> from convit.model import ConViT, ConViTConfig
        >>> model = ConViT(ConViTConfig(depth=2, local_up_to_layer=1, num_classes=3, img_size=32, patch_size=8))
        >>> classifier = Classifier(model, top_k=2)
        >>> [len(found) for found in classifier([np.zeros((40, 50, 3), np.uint8)] * 3)]
        [2, 2, 2]
    """

    def __init__(
        self,
        model: str | nn.Module | None = None,
        *,
        weights: str | Path | None = None,
        top_k: int = 5,
        options: RunOptions | None = None,
        **changes: Unpack[RunKeywords],
    ) -> None:
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}, but must be at least 1")
        super().__init__(model, weights, options, **changes)
        self._runner.check("logits")
        self.labels = read_labels(self.model)
        self.temperature = read_temperature(self.model)
        self.top_k = min(top_k, len(self.labels))

    @property
    def identity(self) -> dict[str, Any]:
        """See `Predictor.identity`; class names by their hash."""
        classes = f"sha256:{hashlib.sha256(json.dumps(self.labels).encode()).hexdigest()}"
        return {**super().identity, "top_k": self.top_k, "classes": classes, "temperature": self.temperature}

    @overload
    def __call__(self, source: list[Any] | tuple[Any, ...]) -> list[list[Prediction]]: ...
    @overload
    def __call__(self, source: ImageSource) -> list[Prediction]: ...
    def __call__(self, source: Any) -> list[Prediction] | list[list[Prediction]]:
        """Label one image, or a list or tuple of them.

        Args:
            source: a path, an image's bytes, a Pillow image, an array (see `open_image`), or a list of these.

        Returns:
            The likeliest classes, best first; for a list, one such list per image.

        Raises:
            ImageError: an image cannot be read; the first of them if there are several.
            TypeError: something is not an image.
        """
        found = [list(self._result(row).predictions) for row in self._read_all(source)]
        return found if isinstance(source, list | tuple) else found[0]

    def _forward(self, pixels: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        logits = self._runner.compute(pixels, "logits")
        if logits.shape[1:] != (len(self.labels),):
            raise ValueError(
                f"the model gives {logits.shape} for {len(pixels)} images, but a classifier needs (batch, "
                f"{len(self.labels)}); use a model with global_pool='token' or 'avg'"
            )
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is told of image by image
            scaled = np.exp((logits - logits.max(axis=-1, keepdims=True)) / np.float32(self.temperature))
            scores = scaled / scaled.sum(axis=-1, keepdims=True)
        best = np.argsort(-scores, axis=-1, kind="stable")[:, : self.top_k]
        return np.take_along_axis(scores, best, axis=-1), best

    def _result(self, row: Row) -> Classification:
        scores, indices = ([], []) if row.outputs is None else (values.tolist() for values in row.outputs)
        found = (Prediction(self.labels[index], index, score) for score, index in zip(scores, indices, strict=True))
        return Classification(row.name, tuple(found), None if row.error is None else str(row.error))


def read_labels(model: nn.Module) -> tuple[str, ...]:
    """Name each class of a model, by index: from its `pretrained_cfg`, else "class 0", "class 1" ….

    Raises:
        ValueError: the model has no classes (`num_classes` is 0 or missing).
    """
    card: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    count = getattr(model, "num_classes", card.get("num_classes", 0))
    names = card.get("label_names")
    if not count:
        raise ValueError(f"the {type(model).__name__} has num_classes=0, so it names no classes; use an Embedder")
    if names is not None and len(names) == count:
        return tuple(str(name) for name in names)
    return numbered_classes(int(count))


def read_temperature(model: nn.Module) -> float:
    """What a model's logits are divided by before the softmax, from its `pretrained_cfg`; 1 if nothing was fitted.

    Raises:
        ValueError: the card holds something that is not a temperature.
    """
    card: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    if not card.get("calibration") or getattr(model, "num_classes", None) != card.get("num_classes"):
        return 1.0  # a new head has other logits
    return temperature_of(card["calibration"])
