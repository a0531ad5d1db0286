"""Outputs are compared before times are: a fast model that computes something else is not a faster model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from convit.benchmark.building import Entry
from convit.benchmark.candidates import Candidate
from convit.benchmark.cases import ALLOWED
from convit.model import ConViT
from convit.optimization.precision import name_of
from convit.output.text import is_out_of_memory

_log = logging.getLogger(__name__)
COMPARED = 2  # images: enough for a mistake to show, few enough to cost nothing


def compare_outputs(reference: ConViT, taking_part: Sequence[tuple[Entry, Tensor]]) -> dict[str, float]:
    """How far each equal candidate's outputs differ from our model's in fp32, as a share of the largest, by name.

    `reference` is our model, in fp32 on the CPU; the first of each candidate's images are compared.

    Raises:
        ValueError: a candidate with equal weights differs by more than its precision explains.
    """
    found: dict[str, float] = {}
    if not taking_part:
        return found
    with torch.inference_mode():
        expected = reference(taking_part[0][1][:COMPARED].float().cpu())
    for entry, images in taking_part:
        if entry.candidate.relation == "another":
            continue
        with torch.inference_mode():
            # the whole batch, since a module may be made for its size
            outputs = entry.module(images.to(entry.dtype))[: len(expected)]
        error = relative_error(outputs, expected[: len(outputs)])
        held_in = "bf16" if entry.candidate.amp else name_of(entry.dtype)
        allowed = max(ALLOWED[entry.computed_in], ALLOWED[held_in])
        if not error <= allowed:
            raise ValueError(
                f"refused: {entry.candidate.name} gives other outputs than our model in fp32: they differ by "
                f"{error:.2g} of the largest, allowed are {allowed:g} in {entry.computed_in}; nothing was timed"
            )
        found[entry.candidate.name] = float(f"{error:.3g}")
    return found


def relative_error(values: Tensor, reference: Tensor) -> float:
    """Largest difference over the largest reference value, both taken in fp64 on the CPU."""
    values, reference = (each.detach().cpu().double() for each in (values, reference))
    return float((values - reference).abs().max() / reference.abs().max())


def fit_batch(candidate: Candidate, run: Callable[[Tensor], object], images: Tensor) -> Tensor | None:
    """As `largest_fitting`, which is said where it is less than the whole batch.

    Raises:
        MemoryError: ours has no room for a single image.
    """
    found = largest_fitting(run, images)
    if found is None and candidate.relation == "ours":
        raise MemoryError(f"{candidate.name} does not fit in memory with a single image; use a smaller --size")
    if found is None:
        _log.warning("%s is left out: it does not fit in memory with a single image", candidate.name)
    elif len(found) < len(images):
        message = "a batch of %d does not fit in memory for %s; halved to %d"
        _log.warning(message, len(images), candidate.name, len(found))
    return found


def largest_fitting(run: Callable[[Tensor], object], images: Tensor) -> Tensor | None:
    """The first images of a batch, as many as `run` has memory for: halved until it does; None if not one fits."""
    while True:
        try:
            run(images)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return images
        # outside of the handler, where the error holds no tensors any more
        if images.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(images) == 1:
            return None
        images = images[: len(images) // 2]
