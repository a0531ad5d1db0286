"""Timing things against each other on a machine that others use too, and `precision="fastest"`, which does so."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from convit.optimization.optimized import OptimizedConViT
from convit.optimization.plan import Step

LEAST_COSINE = 0.999
"""Of each image's outputs in another precision with those in fp32."""
_ROUNDS = 5


def alternate(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    settle: Callable[[], object] = lambda: None,
    warm_ups: int = 1,
) -> dict[str, list[float]]:
    """Call each in turn, again and again, so that whatever slows the machine down slows down all of them.

    Args:
        calls: what to time, by name.
        rounds: timed calls of each.
        settle: waits until the device has finished.
        warm_ups: untimed calls of each before.

    Returns:
        Seconds of each call, by name.
    """
    for _ in range(warm_ups):
        for call in calls.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            settle()
            start = time.perf_counter()
            call()
            settle()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def settling(device: torch.device) -> Callable[[], object]:
    """What waits until a device has finished; nothing to wait for on a CPU."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device.type == "mps":
        return torch.mps.synchronize
    return lambda: None


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
    calls = {name: partial(form, images) for name, form in forms.items()}
    took = {name: min(seconds) for name, seconds in alternate(calls, _ROUNDS, settling(device)).items()}
    said = [f"{1000 * each:.1f} ms in {name}" for name, each in took.items()]
    close = [name for name in forms if name == "fp32" or cosines[name] >= LEAST_COSINE]
    chosen = min(close, key=took.__getitem__)
    why = f"fastest: {len(images)} images took {', '.join(said)}; cosine with fp32 {cosines[chosen]:.5f}"
    form = forms[chosen]
    form.plan = replace(form.plan, steps=(Step("precision", chosen, why), *form.plan.steps[1:]))
    return form


def _images(model: OptimizedConViT, count: int) -> Tensor:
    config = model.config
    shape = (count, config.in_chans, config.image_height, config.image_width)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
