"""What the benchmark of exported files says of its measurements."""

from typing import Any

from benchmarks import exports


def test_the_better_batch_of_the_base_model_is_judged() -> None:
    def judged(model: str, *ratios: float) -> list[Any]:
        rows = [{"model": model, "ratio": ratio} for ratio in ratios]
        return [(row["target"], row["met"]) for row in exports.judge(rows)]

    assert judged("convit_base", 1.2, 1.4) == [(1.35, True), (1.35, True)]
    assert judged("convit_base", 1.2, 1.3) == [(1.35, False), (1.35, False)]
    assert judged("convit_tiny", 1.0) == [(None, None)]
