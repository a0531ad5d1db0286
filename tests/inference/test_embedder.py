"""Pictures in, vectors out."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convit.images import ImageError, open_image
from convit.inference import Embedder, check_kind
from convit.model import ConViT
from convit.transforms import create_transform, resolve_model_data_config
from convit.weights import save_weights

MakeModel = Callable[..., ConViT]


def batch_of(model: nn.Module, photos: list[Path]) -> torch.Tensor:
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    return torch.stack([transform(open_image(path)) for path in photos])


@torch.inference_mode()
def expected(model: ConViT, photos: list[Path], kind: str) -> np.ndarray:
    images = batch_of(model, photos)
    tokens = model.forward_features(images)
    blocks = model.forward_intermediates(images, output_fmt="NLC", intermediates_only=True)
    found = {
        "pooled": tokens[:, 0],
        "pre_logits": model.forward_head(tokens, pre_logits=True),
        "tokens": tokens,
        "patches": tokens[:, 1:],
        "layer:0": blocks[0],
        "layer:2": blocks[2],
    }
    return found[kind].numpy()


@pytest.mark.parametrize("kind", ["pooled", "pre_logits", "tokens", "patches", "layer:0", "layer:2"])
@pytest.mark.parametrize("num_classes", [0, 10])
def test_kinds(make_model: MakeModel, photos: list[Path], kind: str, num_classes: int) -> None:
    model = make_model(num_classes=num_classes)
    embedder = Embedder(model, kind=kind, batch_size=2)
    values = embedder(photos)
    assert values.dtype == np.float32
    assert values.shape == (5, *embedder.shape)
    np.testing.assert_allclose(values, expected(model, photos, kind), rtol=1e-4, atol=1e-4)
    single = embedder(photos[1])
    assert single.shape == embedder.shape
    np.testing.assert_allclose(single, values[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "shape"), [("pooled", (32,)), ("tokens", (17, 32)), ("patches", (16, 32)), ("layer:1", (16, 32))]
)
def test_shapes(make_model: MakeModel, kind: str, shape: tuple[int, ...]) -> None:
    assert Embedder(make_model(), kind=kind).shape == shape
    assert Embedder(make_model(), kind=kind)([]).shape == (0, *shape)


def test_shape_follows_the_input_size(make_model: MakeModel) -> None:
    assert Embedder(make_model(), kind="tokens", img_size=(16, 64)).shape == (17, 32)
    assert Embedder(make_model(), kind="patches", img_size=64).shape == (64, 32)


@pytest.mark.parametrize("kind", ["pooled", "tokens"])
def test_normalized_vectors(make_model: MakeModel, photos: list[Path], kind: str) -> None:
    model = make_model()
    plain = Embedder(model, kind=kind)(photos)
    values = Embedder(model, kind=kind, normalize=True)(photos)
    np.testing.assert_allclose(np.linalg.norm(values, axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(values * np.linalg.norm(plain, axis=-1, keepdims=True), plain, rtol=1e-4, atol=1e-5)


def test_a_run_goes_on_after_bad_pictures(make_model: MakeModel, photos: list[Path]) -> None:
    embedder = Embedder(make_model(), batch_size=2)
    results = list(embedder.iterate([*photos[:2], "missing.jpg", *photos[2:]]))
    assert [result.path for result in results] == [*map(str, photos[:2]), "missing.jpg", *map(str, photos[2:])]
    assert results[2].values is None
    assert results[2].error == "missing.jpg: no such file; check the path"
    good = np.stack([result.values for result in results if result.values is not None])
    np.testing.assert_allclose(good, embedder(photos), rtol=1e-4, atol=1e-5)
    with pytest.raises(ImageError, match="no such file"):
        embedder("missing.jpg")


def test_average_pooling(make_model: MakeModel, photos: list[Path]) -> None:
    model = make_model(global_pool="avg", num_classes=0)
    with torch.inference_mode():
        wanted = model(batch_of(model, photos)).numpy()
    np.testing.assert_allclose(Embedder(model)(photos), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(Embedder(model, kind="pre_logits")(photos), wanted, rtol=1e-4, atol=1e-5)


def test_half_precision_gives_float32(make_model: MakeModel, photos: list[Path]) -> None:
    model = make_model()
    values = Embedder(model, precision="bf16")(photos)
    assert values.dtype == np.float32
    exact = Embedder(model)(photos)
    assert np.abs(values - exact).max() < 0.1 * np.abs(exact).max()


def test_weights_from_a_file_lose_their_head(make_model: MakeModel, photos: list[Path], tmp_path: Path) -> None:
    model = make_model()
    save_weights(tmp_path / "own.safetensors", model, {})
    embedder = Embedder(weights=tmp_path / "own.safetensors")
    assert embedder.model.num_classes == 0
    np.testing.assert_allclose(embedder(photos), Embedder(model)(photos), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["pool", "layer", "layer:", "layer:-1", "layer:1.5", "layer:²", "TOKENS", ""])
def test_unknown_kinds(kind: str) -> None:
    with pytest.raises(ValueError, match="must be one of pooled, pre_logits, tokens, patches, layer:N") as caught:
        check_kind(kind)
    assert repr(kind) in str(caught.value)
    with pytest.raises(ValueError, match="kind is"):
        Embedder("convit_base.fb_in1k", kind=kind)


def test_kinds_that_a_model_cannot_give(make_model: MakeModel, cat: Image.Image) -> None:
    with pytest.raises(ValueError, match="kind is 'layer:3', but the model has 3 blocks, layer:0 to layer:2"):
        Embedder(make_model(), kind="layer:3")
    with pytest.raises(ValueError, match=r"does not pool \(global_pool=''\); use kind='tokens'"):
        Embedder(make_model(global_pool=""))
    assert Embedder(make_model(global_pool=""), kind="tokens")(cat).shape == (17, 32)
    with pytest.raises(TypeError, match="the Linear has no forward_features, which kind='pooled' reads"):
        Embedder(nn.Linear(3, 3))
