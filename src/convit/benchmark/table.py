"""A report on the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TextIO

from convit.benchmark.explaining import Explanation
from convit.benchmark.rows import Row
from convit.output.console import make_table, print_parts

_ANOTHER = "* another model: its speed may be compared, its outputs may not"
Column = tuple[str, Callable[[Row], str]]


def print_rows(rows: Sequence[Row], out: TextIO) -> None:
    """Write the rows of one case, under what they have in common.

    Args:
        rows: of one case, at least one.
        out: where to.
    """
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
