"""Images per second, and how long a single call takes: forward passes on images that lie on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from convit.benchmark.building import Entry, build_entry, build_reference, image_size, is_comparable, make_images
from convit.benchmark.candidates import Candidate
from convit.benchmark.cases import Case
from convit.benchmark.comparing import compare_outputs, fit_batch
from convit.benchmark.rows import Row, make_row, share_of_peak, with_ratios
from convit.benchmark.timing import alternate, settling
from convit.model import ConViT


def measure_throughput(case: Case) -> list[Row]:
    """Time forward passes of everybody in turn; for "infer" and "latency".

    A batch that does not fit in memory is halved until it does, for that candidate alone; one that has no room for a
    single image is left out. Both are said in the log. Raises the errors of `measure`.
    """
    reference = build_reference(case)
    images = make_images(case, reference)
    taking_part = fit_entries(case, reference, images)
    differences = compare_outputs(reference, taking_part) if is_comparable(case) else {}
    calls = {entry.candidate.name: partial(entry.module, batch.to(entry.dtype)) for entry, batch in taking_part}
    device = case.torch_device

    def memory_of(entry: Entry) -> float | None:
        # a recorded graph's memory is set aside when it is recorded, and no call allocates any
        return None if entry.backend == "cuda graph" else peak_memory(calls[entry.candidate.name], device)

    with torch.inference_mode():
        return time_all(case, reference, taking_part, calls, differences, memory_of)


def time_all(
    case: Case,
    reference: ConViT,
    taking_part: Sequence[tuple[Entry, Tensor]],
    calls: Mapping[str, Callable[[], object]],
    differences: Mapping[str, float],
    memory_of: Callable[[Entry], float | None],
    passes: int = 1,
) -> list[Row]:
    """Time everybody's calls in turn, and make a row of each.

    `calls` (what is timed) and `differences` (of outputs) are by candidate's name, `memory_of` gives 10^6 bytes, and
    `passes` is as for `share_of_peak`.
    """
    device = case.torch_device
    seconds = alternate(calls, case.round_count, settling(device), warm_ups=3 if device.type == "cuda" else 1)
    rows: list[Row] = []
    for entry, batch in taking_part:
        name = entry.candidate.name
        row = make_row(case, entry, image_size(reference), len(batch), seconds[name])
        measured = {
            "difference": differences.get(name),
            "peak_share": share_of_peak(entry, row.images_per_second, device, passes),
            "memory_mb": memory_of(entry),
        }
        rows.append(dataclasses.replace(row, **measured))
    return with_ratios(rows)


def fit_entries(case: Case, reference: ConViT, images: Tensor) -> list[tuple[Entry, Tensor]]:
    """Everybody who has room for at least one image, each with as much of the fp32 batch as it has memory for.

    Raises:
        MemoryError: ours has no room for a single image.
        And what `build_entry` raises.
    """
    found: list[tuple[Entry, Tensor]] = []
    for candidate in case.candidates():
        made: list[Entry] = []

        def run(batch: Tensor, candidate: Candidate = candidate, made: list[Entry] = made) -> None:
            # made anew for each batch size, for which compiled code and recorded graphs are; the last one must go first
            made.clear()
            made.append(build_entry(dataclasses.replace(case, batch=len(batch)), candidate, reference))
            with torch.inference_mode():
                made[-1].module(batch.to(made[-1].dtype))

        if (batch := fit_batch(candidate, run, images)) is not None:
            found.append((made[-1], batch))
    return found


def peak_memory(call: Callable[[], object], device: torch.device) -> float | None:
    """What one more call allocates at its peak on a GPU, 10^6 bytes; None elsewhere."""
    return round(gpu_memory(call, device)["peak"] / 1e6, 1) if device.type == "cuda" else None


def gpu_memory(call: Callable[[], object], device: torch.device) -> dict[str, int]:
    """Bytes "held" on a GPU before a call, those that it adds at its "peak", and those of them that are "kept"."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    peak, after = torch.cuda.max_memory_allocated(device), torch.cuda.memory_allocated(device)
    return {"held": held, "peak": peak - held, "kept": after - held}
