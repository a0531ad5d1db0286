"""Which path was taken and why, and where the time goes: each kind of work's share."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, TextIO, cast

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from convit.benchmark.building import Entry, build_reference, image_size, make_images
from convit.benchmark.cases import Case
from convit.benchmark.throughput import fit_entries
from convit.optimization.optimized import OptimizedConViT
from convit.optimization.plan import Step
from convit.optimization.timing import thread_count
from convit.output.console import make_table, print_parts

PASSES = 3
# The first pattern that is found in an operator's or a kernel's name says what kind of work it is. In our fast form
# layers are plain products, and batched ones occur in attention alone: see `_name`.
_KINDS = (
    ("attention", r"scaled_dot_product|flash|fmha|sdp|attention|gpsa|softmax"),
    ("patch embedding", r"conv|im2col|unfold|pixel_unshuffle"),
    ("norms", r"layer_?norm|batch_norm"),
    ("position attention", r"aten::bmm|baddbmm|einsum|aten::_reindex"),
    (
        "products",
        r"addmm|aten::mm|linear|_int_mm|scaled_mm|gemm|cutlass|cublas|nvjet|xmma|aten::dot|mkl|matmul|sm\d\d_",
    ),
    ("activations", r"gelu|relu|silu|tanh|erf|sigmoid"),
    ("compiled pointwise code", r"triton_|cpp_fused|compiled region|torch-compiled"),
    (
        "residuals and copies",
        r"aten::(add|mul|sub|lerp|cat|copy|clone|to$|_to_copy|contiguous|fill|zero|stack|mean)|elementwise|memcpy|memset"
        r"|copy_kernel|catarray",
    ),
)
_REST = "rest"
_LEAST = 0.003  # a runtime that counts by itself has many kinds; what takes less than this is not shown
_NONE = re.compile(
    r"aten::(empty|view|as_strided|expand|transpose|permute|reshape|select|slice|unsqueeze|t$|chunk|split)"
)


@dataclass(frozen=True)
class Explanation:
    """How one case runs.

    Attributes:
        case: in words.
        steps: that `convit.optimize` took.
        shares: part of the time by kind of work, largest first and the rest last; 0 to 1, together 1.
        milliseconds: of a pass.
        measured_by: "torch.profiler" or a runtime whose own counters these are.
    """

    case: str
    steps: tuple[Step, ...]
    shares: dict[str, float]
    milliseconds: float
    measured_by: str


def explain(case: Case) -> Explanation:
    """Run our candidate under a profiler and sort the time by kind of work.

    A batch that does not fit in memory is halved as for `measure`, which raises what this raises.
    """
    if case.exported is not None:
        raise ValueError(f"{case.model} is an exported folder, which cannot be looked into; leave --explain out")
    with thread_count(case.threads):
        reference = build_reference(case)
        ((entry, images),) = fit_entries(replace(case, against=()), reference, make_images(case, reference))
        seconds, source = profile_kinds(entry, images.to(entry.dtype))
    total = sum(seconds.values()) or 1.0
    parts = {kind: value / total for kind, value in sorted(seconds.items(), key=lambda item: -item[1])}
    shares = {kind: round(part, 4) for kind, part in parts.items() if part >= _LEAST and kind != _REST}
    shares[_REST] = round(sum(part for kind, part in parts.items() if kind not in shares), 4)
    height, width = image_size(reference)
    return Explanation(
        case=f"{case.model}, {case.precision}, {height} x {width}, batch {len(images)}",
        steps=entry.steps,
        shares=shares,
        milliseconds=round(1000 * total, 3),
        measured_by=source,
    )


def print_explanation(explanation: Explanation, out: TextIO) -> None:
    """Write which path was taken and why, and each kind of work's share of the time."""
    shares = [(kind, f"{100 * share:.1f} %") for kind, share in explanation.shares.items()]
    print_parts(
        out,
        f"How ours runs: {explanation.case}",
        make_table(("step", "choice", "reason"), explanation.steps),
        f"Where the time goes ({explanation.milliseconds:g} ms a pass by {explanation.measured_by})",
        make_table(("work", "share"), shares, right=(1,)),
    )


@torch.inference_mode()
def profile_kinds(entry: Entry, images: Tensor) -> tuple[dict[str, float], str]:
    """Seconds of a pass by kind of work, and who measured them: the runtime's `layer_times`, or PyTorch's profiler."""
    entry.module(images)
    if entry.backend == "openvino":
        return cast(OptimizedConViT, entry.module).layer_times(images), entry.backend
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's library reports its own doings on standard error
    on_gpu = images.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, acc_events=True, record_shapes=not on_gpu) as profiler:
        for _ in range(PASSES):
            entry.module(images)
        if on_gpu:
            torch.cuda.synchronize(images.device)
    averages: Any = profiler.key_averages(group_by_input_shape=not on_gpu)
    if on_gpu:
        # kernels alone: the operators that launched them are told the same time once more
        timed = [(event.key, event.self_device_time_total) for event in averages if event.device_type.name == "CUDA"]
    else:
        timed = [(_name(event, entry.cost.tokens or 0), event.self_cpu_time_total) for event in averages]
    return {kind: 1e-6 * value / PASSES for kind, value in sum_kinds(timed).items()}, "torch.profiler"


def _name(event: Any, tokens: int) -> str:
    """The operator's name, marked if it is a batched product of content attention.

    In position attention the first factor is square with a side of the grid's, which is less than the number of tokens.
    """
    factors = [shape for shape in event.input_shapes if len(shape) == 3]
    if event.key not in ("aten::bmm", "aten::baddbmm") or len(factors) < 2:
        return event.key
    *_, (_, rows, inner), _ = factors
    return event.key if rows == inner < tokens else f"content attention, {event.key}"


def sum_kinds(timed: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Times of named operators or kernels, added up by kind of work.

    >>> sum_kinds([("aten::addmm", 6.0), ("aten::gelu", 1.0), ("aten::mm", 2.0)])
    {'products': 8.0, 'activations': 1.0}
    """
    sums: dict[str, float] = defaultdict(float)
    for name, time in timed:
        sums[kind_of(name)] += time
    return dict(sums)


def kind_of(name: str) -> str:
    """What kind of work an operator or a kernel does, by its name."""
    lowered = name.lower()
    if _NONE.match(lowered):
        return _REST
    return next((kind for kind, pattern in _KINDS if re.search(pattern, lowered)), _REST)
