"""Made-up vectors of four classes, and photographs in two splits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convit.data import ClassName
from convit.evaluation.probes import Embedded, Task

MakeEmbedded = Callable[..., Embedded]
CLASSES, DIM = 4, 12
MADE_BY = {"model": "made.up", "fingerprint": "sha256:0", "kind": "pooled", "preprocessing": {}, "precision": "fp32"}


def draw(count: int, seed: int, spread: float = 1.3) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around the same four centers, `count` of each class, mixed."""
    centers = np.random.default_rng(5).normal(size=(CLASSES, DIM))
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(CLASSES), count))
    vectors = centers[labels] + spread * rng.normal(size=(len(labels), DIM)) + 3.0
    return vectors.astype(np.float32), labels


@pytest.fixture
def task() -> Task:
    """60 training and 160 test vectors whose classes overlap."""
    train, train_labels = draw(15, 1)
    test, test_labels = draw(40, 2)
    return Task(train, train_labels, test, test_labels, ("ant", "bee", "cat", "dog"))


@pytest.fixture
def embedded() -> MakeEmbedded:
    """Makes what `embed_labeled` gives, of given labels and class names."""

    def make(labels: list[int], names: list[str] | None = None, data: str = "a", wnids: bool = False) -> Embedded:
        rng = np.random.default_rng(len(labels))
        return Embedded(
            vectors=rng.normal(size=(len(labels), DIM)).astype(np.float32),
            labels=np.array(labels, dtype=np.int64),
            names=[f"{number}.jpg" for number in range(len(labels))],
            unreadable={},
            identity={"data": {"kind": "folder", "name": data, "sha256": data}, **MADE_BY},
            classes=None if names is None else [ClassName(name, f"n{name}" if wnids else None) for name in names],
        )

    return make


@pytest.fixture
def splits(tmp_path: Path, pictures: list[tuple[str, int, bytes]]) -> Path:
    """A folder with train (two crops of each photograph) and val (one)."""
    root = tmp_path / "photographs"
    for name, number, content in pictures:
        place = root / ("val" if number == 2 else "train") / name
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.jpg").write_bytes(content)
    return root
