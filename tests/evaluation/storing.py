"""The same few pictures in every form that labeled data come in, made on the fly."""

import pickle
from collections.abc import Mapping, Sequence
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.data import making


def picture(number: int, size: int = 32) -> Image.Image:
    """A picture like no other."""
    levels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(levels).resize((size, size), Image.Resampling.NEAREST)


def encoded(number: int, size: int = 32) -> bytes:
    """Picture `number` as PNG."""
    return making.encoded(picture(number, size))


def write_file(path: Path, number: int) -> None:
    """Picture `number` as a file, PNG whatever its suffix; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(number))


def write_folders(root: Path, by_class: Mapping[str, Sequence[int]]) -> Path:
    """A folder per class, with pictures of these numbers."""
    for name, numbers in by_class.items():
        for number in numbers:
            write_file(root / name / f"{number:02d}.png", number)
    return root


def write_shard(path: Path, samples: Sequence[tuple[int, int]]) -> Path:
    """A shard of (picture, label)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return making.write_samples(path, ((f"s{number:02d}.png", encoded(number), label) for number, label in samples))


def write_parquet(path: Path, samples: Sequence[tuple[int, Any]], names: Sequence[str] | None = None) -> Path:
    """A table of (picture, label) as the hub lays it out, with the names of the labels noted where they are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": encoded(number), "path": None} for number, _ in samples]
    return making.write_table(path, images, [label for _, label in samples], names)


def write_cifar10(folder: Path, labels: Sequence[int], monkeypatch: Any) -> Path:
    """CIFAR-10's official files, whose test images are pictures 0, 1, 2 … of these labels."""
    from torchvision.datasets import CIFAR10

    inside = folder / "cifar-10-batches-py"
    inside.mkdir(parents=True)
    pixels = np.stack([np.asarray(picture(number)).transpose(2, 0, 1).reshape(-1) for number in range(len(labels))])

    def write(name: str, content: dict[str, Any]) -> list[str]:
        data = pickle.dumps(content, protocol=2)
        (inside / name).write_bytes(data)
        return [name, md5(data, usedforsecurity=False).hexdigest()]

    batch = {"data": pixels, "labels": list(labels)}
    meta = write("batches.meta", {"label_names": [f"c{number}" for number in range(10)]})
    monkeypatch.setattr(CIFAR10, "train_list", [write("data_batch_1", {**batch, "labels": list(labels[::-1])})])
    monkeypatch.setattr(CIFAR10, "test_list", [write("test_batch", batch)])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "filename": meta[0], "md5": meta[1]})
    return folder


def take_for_hub(folder: Path, monkeypatch: Any) -> Path:
    """Let the `datasets` library open FOLDER/owner/name as it opens the hub's; where its splits' Parquet files go."""
    import datasets

    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    datasets.disable_progress_bars()
    return folder / "owner/name/data"
