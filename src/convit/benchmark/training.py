"""Training steps: forward, soft cross-entropy, backward and AdamW, all candidates in the same loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convit.benchmark.building import Entry, build_module, build_reference, compiled, make_images
from convit.benchmark.candidates import Candidate
from convit.benchmark.cases import ALLOWED_LOSS, Case, peer_precision
from convit.benchmark.comparing import fit_batch
from convit.benchmark.rows import Row
from convit.benchmark.throughput import peak_memory, time_all
from convit.model import ConViT
from convit.optimization.precision import computed_in, dtype_of
from convit.training.optimizers import build_optimizer
from convit.training.recipe import OptimizerRecipe

_RATE = 1e-5
_PASSES = 3  # a product's backward is two products


def measure_training(case: Case) -> list[Row]:
    """Time optimizer steps of everybody in turn; bf16 is mixed precision by autocast.

    Ours is computed in fp32 where the processor is slower at bf16, as `convit train` does it; others in what was asked.
    On a GPU, the memory is what a step needs in all: weights, gradients, the optimizer's state and what a step adds.

    Raises:
        ValueError: first losses differ that must not.
        MemoryError: ours has no room for a single image; others that have none are left out.
        And what `build_peer` raises.
    """
    reference = build_reference(case)
    images = make_images(case, reference)
    taking_part: list[tuple[Entry, Tensor]] = []
    first, calls = dict[str, float](), dict[str, Callable[[], float]]()
    for candidate in case.candidates():
        entry = _build(case, candidate, reference)
        name, step = candidate.name, make_step(entry, case)
        batch = fit_batch(candidate, lambda batch, name=name, step=step: first.setdefault(name, step(batch)), images)
        if batch is not None:
            taking_part.append((entry, batch))
            calls[name] = partial(step, batch)
    batches = {entry.candidate.name: batch for entry, batch in taking_part}
    differences = compare_losses([entry for entry, _ in taking_part], first, _expected_losses(reference, batches))

    def memory_of(entry: Entry) -> float | None:
        return _whole_memory(entry.module, calls[entry.candidate.name], case.torch_device)

    return time_all(case, reference, taking_part, calls, differences, memory_of, _PASSES)


def make_step(entry: Entry, case: Case) -> Callable[[Tensor], float]:
    """One training step of an entry's module on a batch, which gives its loss."""
    optimizer = build_optimizer(entry.module, OptimizerRecipe(), _RATE)
    dtype, device = dtype_of(entry.computed_in), case.torch_device.type

    def step(images: Tensor) -> float:
        with torch.autocast(device, dtype, enabled=dtype is not torch.float32):
            logits = entry.module(images)
        loss = _soft_cross_entropy(logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def compare_losses(
    entries: Sequence[Entry], losses: Mapping[str, float], expected: Mapping[str, float]
) -> dict[str, float]:
    """Relative difference of each equal candidate's first loss from what our model gives in fp32, by name.

    Raises:
        ValueError: one differs by more than its precision explains.
    """
    found: dict[str, float] = {}
    for entry in entries:
        name = entry.candidate.name
        if entry.candidate.relation != "another":
            difference = abs(losses[name] - expected[name]) / abs(expected[name])
            allowed = ALLOWED_LOSS[entry.computed_in]
            if not difference <= allowed:
                raise ValueError(
                    f"refused: the first loss of {name} differs from our model's in fp32 by {difference:.2g} of it, "
                    f"allowed are {allowed:g} in {entry.computed_in}; nothing was timed"
                )
            found[name] = float(f"{difference:.3g}")
    return found


@torch.no_grad()
def _expected_losses(reference: ConViT, batches: Mapping[str, Tensor]) -> dict[str, float]:
    """Our model's loss in fp32 on each candidate's images; most have the same."""
    largest = max(batches.values(), key=len)
    logits = copy.deepcopy(reference).to(largest.device)(largest)
    return {name: float(_soft_cross_entropy(logits[: len(batch)])) for name, batch in batches.items()}


def _soft_cross_entropy(logits: Tensor) -> Tensor:
    """The loss against soft targets that are the same for as many images."""
    generator = torch.Generator().manual_seed(1)
    targets = torch.softmax(torch.randn(logits.shape, generator=generator), dim=1)
    return F.cross_entropy(logits.float(), targets.to(logits.device))


def _build(case: Case, candidate: Candidate, reference: ConViT) -> Entry:
    device = case.torch_device
    precision = peer_precision(candidate.precision or case.precision, device)
    module, cost = build_module(candidate, reference, device)
    module = module.train()
    # as our own trainer chooses
    dtype = computed_in(precision, device) if candidate.source in ("ours", "eager") else precision
    backend = "compiled" if candidate.compiled else "torch"
    if candidate.compiled:
        module = compiled(module)
    return Entry(candidate, module, torch.float32, dtype, backend, cost)


def _whole_memory(module: nn.Module, call: Callable[[], object], device: torch.device) -> float | None:
    """What a training step needs at its peak on a GPU, without other candidates' share, 10^6 bytes; None elsewhere."""
    added = peak_memory(call, device)
    # weights, their gradients and AdamW's two averages were there before
    held = sum(4 * tensor.numel() * tensor.element_size() for tensor in module.parameters())
    return None if added is None else round(held / 1e6 + added, 1)
