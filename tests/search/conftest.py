"""Real pictures in folders, small, and an index of them by the weights in the package."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from convit.search import Index

MODEL = "convit_nano_patch4_32.cifar10"
PHOTOGRAPHS = {
    "cat": data.chelsea,
    "coffee": data.coffee,
    "rocket": data.rocket,
    "person": data.astronaut,
    "page": data.page,
    "clock": data.clock,
}


@pytest.fixture(scope="session")
def photographs() -> dict[str, Image.Image]:
    """Six photographs, at most 160 pixels long."""
    found: dict[str, Image.Image] = {}
    for name, take in PHOTOGRAPHS.items():
        found[name] = Image.fromarray(take()).convert("RGB")
        found[name].thumbnail((160, 160))
    return found


@pytest.fixture
def folder(tmp_path: Path, photographs: dict[str, Image.Image]) -> Path:
    """A folder of six pictures, a sub-folder each."""
    root = tmp_path / "pictures"
    for name, image in photographs.items():
        (root / name).mkdir(parents=True)
        image.save(root / name / "1.png")
    return root


@pytest.fixture
def open_index(tmp_path: Path) -> Callable[..., Index]:
    """Open the test's one index."""

    def opened(**options: object) -> Index:
        given = {"model": MODEL, "workers": 0, "create": True} | options
        return Index.open(tmp_path / "pictures.db", **given)  # type: ignore[arg-type]

    return opened


@pytest.fixture(scope="session")
def nano_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other weights of the same model, random."""
    import torch

    from convit.weights import create_model, save_weights

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model("convit_nano_patch4_32")
    file = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    save_weights(file, model)
    return file
