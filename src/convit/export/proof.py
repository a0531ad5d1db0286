"""The proof: what a written file gives on images, in its runtime, beside what PyTorch gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from convit.export.graph import Run
from convit.model import ConViT
from convit.transforms import TransformSettings, normalize_batch

Pixels = UInt8[np.ndarray, "batch height width channels"]


@dataclass(frozen=True)
class Proof:
    """How far a file is from PyTorch.

    Attributes:
        largest: difference of one value, relative to the largest absolute value of its output in the batch.
        top1_agreement: share of the images with the same first class; first two classes that are nearer to each other
            than the limit count as one. None where there are no logits.
        images: how many were compared.
        shapes: (batch, height, width) of each batch.
        limit: what `largest` must not exceed; None in int8.
        read: where the images came from.
    """

    largest: float
    top1_agreement: float | None
    images: int
    shapes: tuple[tuple[int, int, int], ...]
    limit: float | None
    read: str

    def to_dict(self) -> dict[str, Any]:
        """Give the fields as JSON has them."""
        return asdict(self)


def compare(model: ConViT, run: Run, batches: Iterable[Pixels], limit: float | None, read: str) -> Proof:
    """Run a file on batches of uint8 pixel values beside the model in PyTorch, fp32.

    Args:
        model: what was exported, on the CPU.
        run: takes the pixel values.
        batches: pixel values (batch, height, width, channels).
        limit: as in `Proof`.
        read: as in `Proof`.
    """
    largest, same, images, shapes = 0.0, 0, 0, []
    has_logits = False
    for pixels in batches:
        found = run(pixels)
        expected = expected_outputs(model, pixels, found)
        for name, values in found.items():
            scale = float(np.abs(expected[name]).max()) or 1.0
            largest = max(largest, float(np.abs(values - expected[name]).max()) / scale)
            if name == "logits":
                has_logits = True
                same += int(_same_first(values, expected[name], scale * (limit or 0.0)).sum())
        images += len(pixels)
        shapes.append(pixels.shape[:3])
    return Proof(largest, same / images if has_logits else None, images, tuple(shapes), limit, read)


@torch.inference_mode()
def expected_outputs(model: ConViT, pixels: Pixels, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The outputs of those names as PyTorch computes them."""
    images = normalize_batch(torch.from_numpy(pixels), TransformSettings.from_model(model))
    tokens = model.forward_features(images)
    found = {"tokens": tokens}
    if "tokens" not in names:
        found |= {"logits": model.forward_head(tokens), "embedding": model.forward_head(tokens, pre_logits=True)}
    return {name: found[name].numpy() for name in names}


def _same_first(found: np.ndarray, expected: np.ndarray, nearer: float) -> np.ndarray:
    first = found.argmax(1)
    best = expected.max(1)
    return best - np.take_along_axis(expected, first[:, None], 1)[:, 0] <= nearer
