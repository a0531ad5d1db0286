"""What a shard's rows depend on: its images and the model, and nothing that was done before."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
from PIL import Image

from convit.cli import main

JOB = ("--model", "convit_mini_patch8_64.tiny_imagenet", "--workers", "0", "--batch-size", "4")


def sorted_rows(output: Path) -> list[dict[str, Any]]:
    return sorted(pyarrow.dataset.dataset(output).to_table().to_pylist(), key=lambda row: row["path"])


def test_rows_are_the_same_to_the_bit_whatever_was_done_before(tmp_path: Path) -> None:
    images, whole, parts = (tmp_path / name for name in ("images", "whole", "parts"))
    images.mkdir()
    noise = np.random.default_rng(0)
    for number in range(17):  # shards of 4 + 2, 4 + 2 and 4 + 1
        Image.fromarray(noise.integers(0, 256, (64, 64, 3), np.uint8)).save(images / f"{number:02}.png")
    job = ("embed", str(images), *JOB, "--images-per-shard", "6")
    assert main([*job, "-o", f"{whole}/"]) == 0
    for part in (2, 1, 0):
        assert main([*job, "-o", f"{parts}/", "--shard", f"{part}/3"]) == 0
    assert len(sorted_rows(whole)) == 17
    assert sorted_rows(parts) == sorted_rows(whole)
