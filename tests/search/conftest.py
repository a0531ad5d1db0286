"""Real pictures in folders, small, and an index of them by the weights in the package."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
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


def row_of(path: str, vector: np.ndarray | None = None, **changes: Any) -> dict[str, Any]:
    """A row of a store, whose vector is (1, 1) unless it is given."""
    row = {"path": path, "sha256": "", "size": 0, "mtime_ns": 0, "width": 1, "height": 1, "label": None}
    return {**row, "vector": np.ones(2, np.float32) if vector is None else vector, **changes}


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
