"""`precision="fastest"`: a model's fast forms timed against each other, and held to what fp32 gives."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from convit.optimization.optimized import OptimizedConViT
from convit.optimization.plan import Step

LEAST_COSINE = 0.999
"""Of each image's outputs in another precision with those in fp32."""
_ROUNDS, _SECONDS = (3, 20), 1.0  # fewest and most, in turn; no more than the fewest once that much time has gone


def fastest(forms: Mapping[str, OptimizedConViT], batch_size: int | None = None) -> OptimizedConViT:
    """Time a model's fast forms on random 8-bit images of its own size, and take the fastest that is close to fp32.

    Args:
        forms: by precision, among them "fp32".
        batch_size: images per pass; None: 8 on the CPU, 64 on a GPU.

    Returns:
        One of them, whose plan says how long each took and how close it came.
    """
    device = torch.device(forms["fp32"].plan.device)
    images = _images(forms["fp32"], batch_size or (8 if device.type == "cpu" else 64)).to(device)
    exact = forms["fp32"](images).flatten(1)
    cosines = {name: cosine_similarity(form(images).flatten(1), exact).min().item() for name, form in forms.items()}
    took = _least_seconds(forms, images)
    said = [f"{1000 * each:.1f} ms in {name}" for name, each in took.items()]
    close = [name for name in forms if name == "fp32" or cosines[name] >= LEAST_COSINE]
    chosen = min(close, key=took.__getitem__)
    why = f"fastest: {len(images)} images took {', '.join(said)}; cosine with fp32 {cosines[chosen]:.5f}"
    form = forms[chosen]
    form.plan = replace(form.plan, steps=(Step("precision", chosen, why), *form.plan.steps[1:]))
    return form


def _least_seconds(forms: Mapping[str, OptimizedConViT], images: Tensor) -> dict[str, float]:
    """The shortest pass of each; they take turns, so that what else the machine does slows all of them down."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    fewest, most = _ROUNDS
    for done in range(most):
        if done >= fewest and sum(map(sum, times.values())) > _SECONDS:
            break
        for name, form in forms.items():
            times[name].append(_seconds(form, images))
    return {name: min(each) for name, each in times.items()}


def _seconds(form: OptimizedConViT, images: Tensor) -> float:
    before = time.perf_counter()
    form(images)
    if images.device.type != "cpu":
        torch.accelerator.synchronize(images.device)
    return time.perf_counter() - before


def _images(model: OptimizedConViT, count: int) -> Tensor:
    config = model.config
    shape = (count, config.in_chans, config.image_height, config.image_width)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
