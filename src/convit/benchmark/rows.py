"""What is reported of each candidate, as a row, and a case's rows as a table on the screen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import torch

from convit.benchmark.building import Entry, weights_of
from convit.benchmark.candidates import Relation
from convit.benchmark.cases import Case
from convit.benchmark.cost import Cost
from convit.benchmark.timing import measure_peak, percentiles, summarize
from convit.optimization.precision import is_emulated
from convit.output.console import make_table, print_parts


@dataclass(frozen=True)
class Row:
    """What one candidate did in one case.

    `mode`, `model` and `device` are the case's; `architecture` and `relation` the candidate's; `computed_in`, `backend`
    and `cost` the entry's.

    Attributes:
        candidate: as it was asked for; "ours" is `convit.optimize` (for training: our model).
        weights: where equal candidates' weights are from: a file, a weight set, or "drawn".
        precision: as asked for.
        compiled: whether `torch.compile` had its part, which some processors pass over.
        height: of the images, pixels.
        width: of the images, pixels.
        batch: images per batch; fewer than `batch_asked` where those did not fit in memory.
        rounds: timed calls.
        step_ms: time of a batch: "median", "low" and "high" quartile, "least".
        images_per_second: from the median.
        ratio: our images per second over its: above 1 ours is faster. None if ours is not there to compare.
        difference: of its outputs from our model's in fp32, over the largest; None for another model.
        peak_share: of the device's measured matrix-product peak, counting executed operations; 0 to 1. None where that
            is not the peak of what runs: in other libraries, and in precisions that the processor emulates.
        percentiles_ms: "p50", "p90", "p99" of a batch's time, where latency was measured.
        memory_mb: peak over what the loaded model holds, 10^6 bytes; for training all that a step needs.
        memory_range_mb: lowest and highest of several processes.
        kept_mb: the part of `memory_mb` that stays, such as weights that are laid out at the first passes.
        held_mb: what the loaded model's process holds before.
    """

    mode: str
    model: str
    candidate: str
    architecture: str
    relation: Relation
    weights: str
    device: str
    precision: str
    computed_in: str
    backend: str
    compiled: bool
    height: int
    width: int
    batch: int
    batch_asked: int
    rounds: int
    step_ms: dict[str, float]
    images_per_second: float
    cost: Cost
    ratio: float | None = None
    difference: float | None = None
    peak_share: float | None = None
    percentiles_ms: dict[str, float] | None = None
    memory_mb: float | None = None
    memory_range_mb: tuple[float, float] | None = None
    kept_mb: float | None = None
    held_mb: float | None = None


def make_row(case: Case, entry: Entry, size: tuple[int, int], batch: int, seconds: list[float], **measured: Any) -> Row:
    """A row from the seconds of each timed call, on images of `size` (height, width); `measured` are further fields."""
    candidate, times = entry.candidate, summarize(seconds)
    return Row(
        mode=case.mode,
        model=case.model,
        candidate=candidate.name,
        architecture=candidate.architecture,
        relation=candidate.relation,
        weights="" if candidate.relation == "another" else weights_of(case),
        device=str(case.torch_device),
        precision=candidate.precision or case.precision,
        computed_in=entry.computed_in,
        backend=entry.backend,
        compiled=entry.backend == "compiled",
        height=size[0],
        width=size[1],
        batch=batch,
        batch_asked=case.batch_size,
        rounds=len(seconds),
        step_ms=times,
        images_per_second=round(1000 * batch / times["median"], 3),
        cost=entry.cost,
        percentiles_ms=percentiles(seconds) if case.mode == "latency" else None,
        **measured,
    )


def with_ratios(rows: Sequence[Row]) -> list[Row]:
    """The rows of one case with our images per second over theirs."""
    ours = next((row for row in rows if row.relation == "ours"), None)
    if ours is None:
        return list(rows)
    return [dataclasses.replace(row, ratio=round(ours.images_per_second / row.images_per_second, 3)) for row in rows]


def share_of_peak(entry: Entry, images_per_second: float, device: torch.device, passes: int = 1) -> float | None:
    """Executed operations per second over the device's peak, 0 to 1; None where that says nothing.

    That is where operations cannot be counted, or the peak that can be measured, of PyTorch's products, is not that of
    what runs. `passes` is the work in units of a forward pass: a training step is three, since each product's backward
    is two.
    """
    by_pytorch = entry.backend in ("torch", "compiled", "cuda graph")
    if entry.cost.executed is None or not by_pytorch or is_emulated(entry.computed_in, device):
        return None
    peak = measure_peak(device, entry.computed_in, torch.get_num_threads())
    share = round(2 * passes * entry.cost.executed * images_per_second / peak, 4)
    return share if share <= 1 else None  # something else kept the machine busy while the peak was measured


_ANOTHER = "* another model: its speed may be compared, its outputs may not"
Column = tuple[str, Callable[[Row], str]]


def print_rows(rows: Sequence[Row], out: TextIO) -> None:
    """Write the rows of one case, at least one, under what they have in common."""
    first = rows[0]
    title = f"{first.model}, {first.height} x {first.width}, {first.precision}, {first.mode}"
    if first.mode != "latency":
        title += f", batch {first.batch_asked}"
    weights = "weights drawn" if first.weights == "drawn" else f"weights {first.weights}"
    columns = _columns(rows)
    cells = [(row.candidate + "*" * (row.relation == "another"), *(show(row) for _, show in columns)) for row in rows]
    right = range(1, len(columns) + 1)
    table = make_table(("candidate", *(heading for heading, _ in columns)), cells, right=right, unfolded=right)
    notes = [f"{row.candidate}: {note}" for row in rows if (note := _notes(row))]
    if any(row.relation == "another" for row in rows):
        notes.append(_ANOTHER)
    print_parts(out, f"{title} ({first.rounds} rounds, {weights})", table, *notes, *[""] * bool(notes))


def _columns(rows: Sequence[Row]) -> list[Column]:
    """What these rows have to show."""
    mode = rows[0].mode
    possible: list[tuple[Column, bool]] = [
        (("ms (quartiles)", _time), True),
        (("p50 / p90 / p99\n(ms)", _percentiles), mode == "latency"),
        (("images/s", lambda row: f"{row.images_per_second:.4g}"), mode != "latency"),
        (("ours is\nfaster by", lambda row: "" if row.ratio is None else f"{row.ratio:.2f} x"), True),
        (("share\nof peak", lambda row: _percent(row.peak_share)), any(row.peak_share is not None for row in rows)),
        (("MB", _memory), any(row.memory_mb is not None for row in rows)),
        (("of them\nkept", lambda row: "" if row.kept_mb is None else _short(row.kept_mb)), mode == "memory"),
        (("tokens", lambda row: f"{row.cost.tokens or ''}"), mode == "memory"),
        (("GMACs", lambda row: _giga(row.cost.executed)), mode == "memory"),
        (("of them\nposition", lambda row: _giga(row.cost.position)), mode == "memory"),
        (("outputs\ndiffer by", lambda row: "" if row.difference is None else f"{row.difference:.1e}"), True),
    ]
    return [column for column, is_shown in possible if is_shown]


def _notes(row: Row) -> str:
    notes: list[str] = []
    if row.batch < row.batch_asked:
        notes.append(f"batch {row.batch}, since {row.batch_asked} does not fit in memory")
    if row.computed_in != row.precision:
        notes.append(f"computed in {row.computed_in}")
    if is_emulated(row.computed_in, torch.device(row.device)):
        notes.append(f"this processor has no instructions for {row.computed_in}")
    if row.backend == "compiled" and "+compile" not in row.candidate:
        notes.append("through torch.compile")
    elif row.backend not in ("torch", "compiled"):
        notes.append(f"run by {row.backend}")
    return ", ".join(notes)


def _time(row: Row) -> str:
    return f"{_short(row.step_ms['median'])} ({_short(row.step_ms['low'])}-{_short(row.step_ms['high'])})"


def _short(value: float) -> str:
    """Three digits at least, all before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _percentiles(row: Row) -> str:
    return " / ".join(_short(value) for value in (row.percentiles_ms or {}).values())


def _memory(row: Row) -> str:
    if row.memory_mb is None:
        return ""
    low, high = row.memory_range_mb or (row.memory_mb, row.memory_mb)
    return _short(row.memory_mb) + (f" ({_short(low)}-{_short(high)})" if high > low else "")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _giga(operations: int | None) -> str:
    return "" if operations is None else f"{operations / 1e9:.3g}"
