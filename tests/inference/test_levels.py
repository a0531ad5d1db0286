"""Models that take 8-bit levels and scale them themselves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convit import Classifier, ConViT, Embedder
from convit.inference.predicting import Predictor
from convit.transforms import TransformSettings, normalize_batch


class TakesLevels(nn.Module):
    """A model that normalizes inside, as an optimized one does, and remembers what it was given."""

    takes_uint8 = True

    def __init__(self, model: ConViT) -> None:
        super().__init__()
        self.model = model
        self.num_classes = model.num_classes
        self.pretrained_cfg = model.pretrained_cfg
        self.given: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        return self.model(self._scale(images))

    def forward_features(self, images: Tensor) -> Tensor:
        return self.model.forward_features(self._scale(images))

    def forward_head(self, tokens: Tensor, pre_logits: bool = False) -> Tensor:
        return self.model.forward_head(tokens, pre_logits)

    def _scale(self, images: Tensor) -> Tensor:
        self.given.append(images)
        scaled = normalize_batch(images.permute(0, 2, 3, 1), TransformSettings.from_model(self.model))
        return scaled.to(self.model.norm.weight.dtype)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_levels_go_in_as_they_are(make_model: Callable[..., ConViT], photos: list[Path], precision: str) -> None:
    model = TakesLevels(make_model())
    classifier = Classifier(model, precision=precision)
    taking: TakesLevels = classifier.model
    usual = Classifier(make_model(), precision=precision)
    for found, expected in zip(classifier(photos), usual(photos), strict=True):
        assert [each.index for each in found] == [each.index for each in expected]
        assert [each.score for each in found] == pytest.approx([each.score for each in expected], rel=1e-5)
    assert sum(len(images) for images in taking.given) == len(photos)
    for images in taking.given:
        assert images.dtype == torch.uint8
        assert images.shape[1:] == (3, 32, 32)
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_embeddings_of_levels(make_model: Callable[..., ConViT], photos: list[Path]) -> None:
    levels = Embedder(TakesLevels(make_model()), kind="patches")
    np.testing.assert_allclose(levels(photos), Embedder(make_model(), kind="patches")(photos), rtol=1e-5, atol=1e-6)
    assert levels.shape == (16, make_model().embed_dim)


def test_the_batch_is_not_copied_on_the_cpu(
    make_model: Callable[..., ConViT], photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier: Predictor = Classifier(TakesLevels(make_model()))
    stack, stacked = np.stack, []
    monkeypatch.setattr(np, "stack", lambda pixels: stacked.append(stack(pixels)) or stacked[-1])
    classifier(photos[:2])
    (images,) = classifier.model.given
    assert images.data_ptr() == stacked[0].ctypes.data


def test_others_get_scaled_batches(make_model: Callable[..., ConViT], photos: list[Path]) -> None:
    model = TakesLevels(make_model())
    model.takes_uint8 = False
    model._scale = lambda images: model.given.append(images) or images
    Classifier(model)(photos[0])
    assert [images.dtype for images in model.given] == [torch.float32]
