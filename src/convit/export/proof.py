"""The proof: what an exported file gives on images, in its runtime, beside what PyTorch gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from convit.export.formats import LIMITS, ExportSettings
from convit.export.images import Pixels, ProofImages
from convit.inference.exported import ExportedModel
from convit.model import ConViT
from convit.transforms import TransformSettings, normalize_batch

BATCHES = (1, 3, 4)
MOST_LOST, LEAST_SAME = 0.5, 98.0
"""In int8: points of top-1 that may be lost, and the share of images in percent that must keep their first class."""
ENOUGH_LABELED, ENOUGH = 1000, 200
_BATCH = 32


@dataclass(frozen=True)
class Proof:
    """How far a file is from PyTorch.

    Attributes:
        largest: difference of one value, relative to the largest absolute value of its output in the batch; None if
            nothing was compared.
        limit: what `largest` must not exceed; None in int8.
        top1_agreement: images that keep their first class, or one nearer to it than the limit, in percent; None without
            logits.
        top1: accuracy in PyTorch and in the file, in percent; None without labels.
        images: how many were compared.
        shapes: (batch, height, width) of each batch, without repeats.
        read: where the images came from.
        warning: why this is a weak proof; empty if it is not.
    """

    largest: float | None
    limit: float | None
    top1_agreement: float | None
    top1: tuple[float, float] | None
    images: int
    shapes: tuple[tuple[int, int, int], ...]
    read: str
    warning: str = ""


def prove(model: ConViT, settings: ExportSettings, folder: Path, images: ProofImages) -> Proof:
    """Run an exported folder beside the model, in PyTorch and fp32 on the CPU.

    In int8 the images that gave no ranges are compared, else three batches, of three sizes where sizes vary.

    Raises:
        ValueError: the difference is above the limit.
    """
    if not settings.form.runtime:
        lacking = f"{settings.form.title} runs on Apple's systems alone, so its results were not compared"
        return Proof(None, None, None, None, 0, (), "nothing", lacking)
    exported, transform = ExportedModel(folder), TransformSettings.from_model(model)
    if settings.precision == "int8":
        places = images.checked or images.ranges
        batches = images.batches(places, transform, _BATCH)
        labels = [images.labels[place] for place in places] if images.labels else []
        return check_int8(compare(model, exported, batches, None, images.read, labels), images)
    patch, size = model.config.patch_size, (transform.height, transform.width)
    other = (max(patch, size[0] - patch), size[1] + 2 * patch)
    sizes = (size, other, (other[1], other[0])) if settings.dynamic_size else (size,) * 3
    sized = [replace(transform, input_size=(transform.input_size[0], *each)) for each in sizes]
    given = (images.batch(batch, each) for batch, each in zip(BATCHES, sized, strict=True))
    found = compare(model, exported, given, LIMITS[settings.precision], images.read)
    if not (found.largest or 0.0) <= LIMITS[settings.precision] or found.top1_agreement not in (None, 100.0):
        raise ValueError(
            f"{settings.form.title} in {settings.precision} differs from PyTorch by {found.largest:.1e} of the largest "
            f"value, but must not by more than {found.limit:.0e}, and keep first classes; nothing was written"
        )
    return found


def compare(
    model: ConViT,
    exported: ExportedModel,
    batches: Iterable[Pixels],
    limit: float | None,
    read: str,
    labels: Sequence[int] = (),
) -> Proof:
    """Measure the difference; `labels` are those of all images of the batches, or none."""
    largest, shapes = 0.0, dict[tuple[int, int, int], None]()
    same, first = list[bool](), list[tuple[int, int]]()  # per image; its first class in PyTorch and in the file
    count = 0
    for pixels in batches:
        found = exported.run(pixels)
        expected = expected_outputs(model, pixels, exported.outputs)
        for name, values in found.items():
            scale = float(np.abs(expected[name]).max()) or 1.0
            largest = float(np.maximum(largest, np.abs(values - expected[name]).max() / scale))  # keeps nan
            if name == "logits":
                theirs, ours = expected[name], values.argmax(1)
                same += (theirs.max(1) - theirs[np.arange(len(ours)), ours] <= scale * (limit or 0)).tolist()
                first += zip(theirs.argmax(1).tolist(), ours.tolist(), strict=True)
        count += len(pixels)
        shapes[pixels.shape[:3]] = None
    top1 = None
    if labels and first:
        right = np.array([[each == label for each in pair] for pair, label in zip(first, labels, strict=True)])
        top1 = (100 * float(right[:, 0].mean()), 100 * float(right[:, 1].mean()))
    return Proof(largest, limit, 100 * float(np.mean(same)) if same else None, top1, count, tuple(shapes), read)


@torch.inference_mode()
def expected_outputs(model: ConViT, pixels: Pixels, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The outputs of those names as PyTorch computes them."""
    tokens = model.forward_features(normalize_batch(torch.from_numpy(pixels), TransformSettings.from_model(model)))
    found = {"tokens": tokens}
    if "tokens" not in names:
        found |= {"logits": model.forward_head(tokens), "embedding": model.forward_head(tokens, pre_logits=True)}
    return {name: found[name].numpy() for name in names}


def check_int8(found: Proof, images: ProofImages) -> Proof:
    """Refuse what costs too much; too few images make a warning of it."""
    if found.top1 is not None and found.images >= ENOUGH_LABELED:
        lost = found.top1[0] - found.top1[1]
        if lost > MOST_LOST:
            raise ValueError(
                f"int8 loses {lost:.1f} points of top-1 on {found.images:,} images, but must not lose more than "
                f"{MOST_LOST}; nothing was written; give other images, or take fp16 or bf16"
            )
        return found
    if found.top1_agreement is None:
        return replace(found, warning="the file has no logits, so top-1 agreement was not checked")
    if not images.checked or found.images < ENOUGH:
        few = f"only {found.images} images were compared" + ("" if images.checked else ", which gave the ranges too")
        return replace(found, warning=f"{few}; give at least {ENOUGH + 64} to --data")
    if found.top1_agreement < LEAST_SAME:
        raise ValueError(
            f"int8 keeps the first class of {found.top1_agreement:.1f} % of {found.images:,} images, but must of "
            f"{LEAST_SAME:g} %; nothing was written; give other images, or take fp16 or bf16"
        )
    return found
