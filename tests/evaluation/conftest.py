"""A small model with named classes, and the same photographs as a folder and as shards."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data

from convit.model import ConViT, ConViTConfig
from convit.weights import save_weights
from tests.data.making import encoded, write_samples

WriteShard = Callable[[Path, list[tuple[str, int, bytes]]], None]
CLASSES = ("cat", "coffee cup", "rocket", "person", "page", "clock")
PHOTOGRAPHS = {
    "cat": data.chelsea,
    "coffee cup": data.coffee,
    "rocket": data.rocket,
    "person": data.astronaut,
    "page": data.page,
    "clock": data.clock,
}


@pytest.fixture
def classes() -> tuple[str, ...]:
    """The model's classes in index order."""
    return CLASSES


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file that describes itself, of a model whose logits differ clearly from image to image."""
    torch.manual_seed(1)
    config = ConViTConfig(
        img_size=32, patch_size=8, embed_dim=16, depth=2, local_up_to_layer=1, num_classes=len(CLASSES)
    )
    model = ConViT(config)
    with torch.no_grad():
        model.head.weight.mul_(40)
        model.head.bias[CLASSES.index("clock")] = -30  # never among the first five, whatever the other weights say
    model.pretrained_cfg = {"label_names": CLASSES, "architecture": "convit_tiny", "crop_pct": 1.0}
    path = tmp_path_factory.mktemp("weights") / "six.safetensors"
    save_weights(path, model)
    return path


@pytest.fixture(scope="session")
def pictures() -> list[tuple[str, int, bytes]]:
    """(class, number within it, encoded picture), three crops of each photograph."""
    found: list[tuple[str, int, bytes]] = []
    for name, read in sorted(PHOTOGRAPHS.items()):
        image = Image.fromarray(read()).convert("RGB")
        for number in range(3):
            left, top = number * image.width // 6, number * image.height // 6
            crop = image.crop((left, top, image.width // 2 + left, image.height // 2 + top))
            found.append((name, number, encoded(crop, "JPEG")))
    return found


@pytest.fixture
def folder(tmp_path: Path, pictures: list[tuple[str, int, bytes]]) -> Path:
    root = tmp_path / "photographs"
    for name, number, content in pictures:
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / f"{number}.jpg").write_bytes(content)
    return root


@pytest.fixture
def shards(tmp_path: Path, pictures: list[tuple[str, int, bytes]]) -> Path:
    """Two shards with the model's own class numbers."""
    root = tmp_path / "shards"
    root.mkdir()
    samples = [(f"{CLASSES.index(name)}_{number}", CLASSES.index(name), content) for name, number, content in pictures]
    _write_shard(root / "val-000000.tar", samples[:10])
    _write_shard(root / "val-000001.tar", samples[10:])
    return root


@pytest.fixture
def write_shard() -> WriteShard:
    """Writes samples (key, label, encoded picture) as a shard."""
    return _write_shard


def _write_shard(path: Path, samples: list[tuple[str, int, bytes]]) -> None:
    write_samples(path, ((f"{key}.jpg", content, label) for key, label, content in samples))
