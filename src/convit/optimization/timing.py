"""Timing things against each other on a machine that others use too, and `precision="fastest"`, which does so."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch.nn.functional import cosine_similarity

from convit.optimization.optimized import OptimizedConViT
from convit.optimization.plan import Step
from convit.transforms.settings import as_height_width

_log = logging.getLogger(__name__)
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

    `settle` waits until the device has finished; `warm_ups` calls of each come before those that are timed.

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


@contextmanager
def thread_count(count: int | None) -> Generator[None]:
    """Run a block with `count` CPU threads; None keeps the number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def settling(device: torch.device) -> Callable[[], object]:
    """What waits until a device has finished; nothing to wait for on a CPU."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device.type == "mps":
        return torch.mps.synchronize
    return lambda: None


def fastest(
    forms: Mapping[str, OptimizedConViT],
    batch_size: int | None = None,
    img_size: int | tuple[int, int] | None = None,
) -> OptimizedConViT:
    """Time a model's fast forms, by precision, on random 8-bit images, and take the fastest that is close to fp32's.

    Its plan says how long each took and how close it came; a single form is not timed. Images are 8 on the CPU and 64
    on a GPU, of the model's own size, where nothing else is said.
    """
    if len(forms) == 1:
        return _chosen(forms, "fp32", "fastest: no half precision is faster here, so nothing was timed")
    config, device = forms["fp32"].config, torch.device(forms["fp32"].plan.device)
    height, width = as_height_width(img_size or config.img_size)
    shape = (batch_size or (8 if device.type == "cpu" else 64), config.in_chans, height, width)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(device)
    images = images if forms["fp32"].takes_uint8 else images / 64 - 2
    exact = forms["fp32"](images).flatten(1)
    cosines = {name: cosine_similarity(form(images).flatten(1), exact).min().item() for name, form in forms.items()}
    calls = {name: partial(form, images) for name, form in forms.items()}
    took = {name: min(seconds) for name, seconds in alternate(calls, _ROUNDS, settling(device)).items()}
    said = [f"{1000 * each:.1f} ms in {name}" for name, each in took.items()]
    close = [name for name in forms if name == "fp32" or cosines[name] >= LEAST_COSINE]
    chosen = min(close, key=took.__getitem__)
    timed = f"{len(images)} images of {height} x {width}"
    why = f"fastest: {timed} took {', '.join(said)}; cosine with fp32 {cosines[chosen]:.5f}"
    return _chosen(forms, chosen, why)


def _chosen(forms: Mapping[str, OptimizedConViT], name: str, why: str) -> OptimizedConViT:
    _log.info("precision %s (%s)", name, why)
    form = forms[name]
    form.plan = replace(form.plan, steps=(Step("precision", name, why), *form.plan.steps[1:]))
    return form
