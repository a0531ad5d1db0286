import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from convit.data import fingerprint, open_dataset
from convit.evaluation.probes import open_sets
from convit.finetuning.images import find_labeled_images

NAMES = {"cifar10": [f"c{index}" for index in range(10)], "cifar100": [f"f{index:02d}" for index in range(100)]}


def _pixels(seed: int, count: int = 4) -> np.ndarray:
    """Images as the files keep them: a row each, red before green before blue."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def _write(folder: Path, name: str, content: dict[str, Any]) -> list[str]:
    """Write one of the official files, and give torchvision's (name, md5) of it."""
    folder.mkdir(parents=True, exist_ok=True)
    data = pickle.dumps(content, protocol=2)
    (folder / name).write_bytes(data)
    return [name, hashlib.md5(data, usedforsecurity=False).hexdigest()]


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both sets in the official layout, four images a file; torchvision's checksums are made those of these files."""
    folder = tmp_path / "cifar-10-batches-py"
    train = [_write(folder, f"data_batch_{n}", {"data": _pixels(n), "labels": [n, 0, 1, 9]}) for n in range(1, 6)]
    test = [_write(folder, "test_batch", {"data": _pixels(6), "labels": [3, 2, 1, 0]})]
    meta = _write(folder, "batches.meta", {"label_names": NAMES["cifar10"]})
    _describe(monkeypatch, CIFAR10, train, test, meta)
    folder = tmp_path / "cifar-100-python"
    train = [_write(folder, "train", {"data": _pixels(7), "fine_labels": [99, 0, 5, 7], "coarse_labels": [0] * 4})]
    test = [_write(folder, "test", {"data": _pixels(8), "fine_labels": [1, 2, 3, 4], "coarse_labels": [0] * 4})]
    meta = _write(folder, "meta", {"fine_label_names": NAMES["cifar100"], "coarse_label_names": []})
    _describe(monkeypatch, CIFAR100, train, test, meta)
    return tmp_path


def _describe(
    monkeypatch: pytest.MonkeyPatch, kind: type[CIFAR10], train: list[list[str]], test: list[list[str]], meta: list[str]
) -> None:
    monkeypatch.setattr(kind, "train_list", train)
    monkeypatch.setattr(kind, "test_list", test)
    monkeypatch.setattr(kind, "meta", {**kind.meta, "filename": meta[0], "md5": meta[1]})


@pytest.mark.parametrize(
    ("source", "labels", "seeds"),
    [
        ("cifar10:.", [label for n in range(1, 6) for label in (n, 0, 1, 9)], range(1, 6)),
        ("cifar10:cifar-10-batches-py:test", [3, 2, 1, 0], [6]),
        ("cifar100:.:train", [99, 0, 5, 7], [7]),
        ("cifar100:.:test", [1, 2, 3, 4], [8]),
    ],
)
def test_the_official_files_are_read(cifar: Path, source: str, labels: list[int], seeds: list[int]) -> None:
    dataset = open_dataset(source, root=cifar)
    assert dataset.classes == tuple(NAMES[source.partition(":")[0]])
    assert [dataset.label(index) for index in range(len(dataset))] == labels
    pixels = np.concatenate([_pixels(seed) for seed in seeds]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(np.stack([np.asarray(dataset[index][0]) for index in range(len(dataset))]), pixels)


def test_classes_are_matched_with_those_given(cifar: Path) -> None:
    backwards = NAMES["cifar10"][::-1]
    assert open_dataset("cifar10:.:test", root=cifar, classes=backwards).label(0) == 6
    with pytest.raises(ValueError, match=r"class 'c9' of .* is none of the 9 known classes"):
        open_dataset("cifar10:.", root=cifar, classes=NAMES["cifar10"][:9])


def test_files_that_are_absent_or_damaged_are_named(cifar: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"elsewhere/cifar-100-python; unpack https://\S*/cifar-100-python"):
        open_dataset("cifar100:elsewhere", root=cifar)
    (cifar / "cifar-10-batches-py/data_batch_3").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"a file in .*cifar-10-batches-py is missing or damaged; unpack https"):
        open_dataset("cifar10:.", root=cifar)


def test_the_fingerprint_is_that_of_the_files(cifar: Path) -> None:
    found = fingerprint("cifar100:.", cifar)
    assert sorted(found) == ["meta", "train"]  # those of the split
    assert found["train"] == hashlib.sha256((cifar / "cifar-100-python/train").read_bytes()).hexdigest()


def test_the_test_part_is_kept_for_the_end(cifar: Path) -> None:
    found = find_labeled_images(f"cifar10:{cifar}")
    assert (len(found.samples), found.train) == (20, f"cifar10:{cifar}")
    assert found.test is not None
    assert found.test.labels == [3, 2, 1, 0]
    probed = open_sets(f"cifar10:{cifar}")
    assert probed.test is not None
    assert (len(probed.train), probed.test.labels) == (20, found.test.labels)
    named = f"cifar10:{cifar}:train"  # stands for itself alone
    assert find_labeled_images(named).test is open_sets(named).test is None
