"""Rows of a benchmark as CSV whose first columns are those of timm's public result tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from convit.benchmark import Row
from convit.output.text import csv_text

# as in timm's results/benchmark-infer-*.csv and benchmark-train-*.csv: times in ms, operations in 10^9, activations and
# parameters in 10^6
INFER_COLUMNS = (
    "model",
    "infer_img_size",
    "infer_samples_per_sec",
    "infer_step_time",
    "infer_batch_size",
    "param_count",
    "infer_gmacs",
    "infer_macts",
)
TRAIN_COLUMNS = (
    "model",
    "train_samples_per_sec",
    "train_step_time",
    "train_batch_size",
    "train_img_size",
    "param_count",
)


def to_csv(rows: Sequence[Row]) -> str:
    """One line per row: timm's columns, then ours."""
    lines = [(_train_columns if row.mode == "train" else _infer_columns)(row) | _own_columns(row) for row in rows]
    first = TRAIN_COLUMNS if rows and rows[0].mode == "train" else INFER_COLUMNS
    own = [name for name in (lines[0] if lines else {}) if name not in first]
    columns = [*first, *own]
    return csv_text(columns, ([line.get(name, "") for name in columns] for line in lines))


def _infer_columns(row: Row) -> dict[str, Any]:
    values = (
        row.architecture,
        _size(row),
        round(row.images_per_second, 2),
        row.step_ms["median"],
        row.batch,
        _scaled(row.cost.parameters, 1e6),
        _scaled(row.cost.macs, 1e9),
        _scaled(row.cost.activations, 1e6),
    )
    return dict(zip(INFER_COLUMNS, values, strict=True))


def _train_columns(row: Row) -> dict[str, Any]:
    values = (
        row.architecture,
        round(row.images_per_second, 2),
        row.step_ms["median"],
        row.batch,
        _size(row),
        _scaled(row.cost.parameters, 1e6),
    )
    return dict(zip(TRAIN_COLUMNS, values, strict=True))


def _own_columns(row: Row) -> dict[str, Any]:
    measured = ("ratio", "difference", "peak_share", "memory_mb", "kept_mb", "held_mb")
    asked = ("candidate", "relation", "mode", "device", "precision", "computed_in", "backend", "compiled", "weights")
    fields = asdict(row)
    return {
        **{name: fields[name] for name in asked},
        "batch_asked": row.batch_asked,
        "rounds": row.rounds,
        "step_ms_low": row.step_ms["low"],
        "step_ms_high": row.step_ms["high"],
        **{name: fields[name] for name in measured},
        **{f"{share}_ms": (row.percentiles_ms or {}).get(share) for share in ("p50", "p90", "p99")},
        "gmacs_executed": _scaled(row.cost.executed, 1e9, 4),
        "gmacs_position": _scaled(row.cost.position, 1e9, 4),
        "tokens": row.cost.tokens,
    }


def _size(row: Row) -> int | str:
    return row.height if row.height == row.width else f"{row.height}x{row.width}"


def _scaled(value: int | None, unit: float, digits: int = 2) -> float | None:
    return None if value is None else round(value / unit, digits)
