"""What the benchmark of exported files says of its measurements."""

from typing import Any

from benchmarks import exports


def test_the_better_batch_of_the_base_model_is_judged() -> None:
    rows: list[dict[str, Any]] = [
        {"model": "convit_base", "batch": 1, "ratio": 1.2},
        {"model": "convit_base", "batch": 8, "ratio": 1.4},
        {"model": "convit_tiny", "batch": 1, "ratio": 1.0},
    ]
    exports.judge(rows)
    assert [(row["target"], row["met"]) for row in rows] == [(1.35, True), (1.35, True), (None, None)]
    rows[1]["ratio"] = 1.3
    exports.judge(rows)
    assert [row["met"] for row in rows] == [False, False, None]
