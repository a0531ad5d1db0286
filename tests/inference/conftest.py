"""A model small enough for every test, and pictures of all kinds."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data

from convit.model import ConViT, ConViTConfig

MakeModel = Callable[..., ConViT]


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """A fresh three-block ConViT for 32 x 32 pictures with ten named classes, the same each time."""

    def make(**changes: object) -> ConViT:
        torch.manual_seed(0)
        options = {
            "embed_dim": 8,
            "img_size": 32,
            "patch_size": 8,
            "depth": 3,
            "local_up_to_layer": 2,
            "num_classes": 10,
        } | changes
        model = ConViT(ConViTConfig(**options))
        with torch.no_grad():  # fresh heads give nearly the same for every picture
            for parameter in model.parameters():
                parameter.mul_(6.0)
        model.pretrained_cfg = {
            "architecture": "convit_test",
            "input_size": (3, 32, 32),
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": (0.5, 0.5, 0.5),
            "std": (0.25, 0.25, 0.25),
            "num_classes": 10,
            "label_names": tuple("abcdefghij"),
        }
        return model.eval()

    return make


@pytest.fixture(scope="session")
def cat() -> Image.Image:
    """A cat, 451 x 300 pixels."""
    return Image.fromarray(data.chelsea())


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five photographs as JPEG files."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{name}.jpg" for name in ("chelsea", "coffee", "rocket", "astronaut", "camera")]
    for path in paths:
        Image.fromarray(getattr(data, path.stem)()).resize((180, 130)).save(path)
    return paths
