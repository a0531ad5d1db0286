"""The cost of a job is the sum of its parts, and says what it is made of."""

import json
from pathlib import Path

import pytest

from convit.scale.planning import RATES, plan_job

KNOWN = {
    "machine": {"device": "a CPU", "date": "2026-01-02T03:04:05"},
    "read": {"bytes_per_second": 1e8},
    "decode": [{"bytes": 10_000, "seconds": 0.001}, {"bytes": 110_000, "seconds": 0.006}],
    "models": {"convit_tiny": {"seconds": 0.02, "gmacs": 1.0}, "convit_base": {"seconds": 0.2, "gmacs": 17.5}},
}


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    """Round numbers in the place of measured ones."""
    (tmp_path / "rates.json").write_text(json.dumps(KNOWN))
    return tmp_path / "rates.json"


def test_a_billion_images_by_hand(rates: Path) -> None:
    cost = plan_job(10**9, "convit_base.fb_in1k", bytes_per_image=60_000, cores=1000, rates=rates)
    assert cost.seconds == pytest.approx({"reading": 0.0006, "decoding": 0.0035, "model": 0.2})
    assert cost.core_hours == pytest.approx(0.2041 * 1e9 / 3600)
    assert cost.hours == pytest.approx(cost.core_hours / 1000)
    assert (cost.dim, cost.vector_bytes, cost.input_bytes) == (768, 3_072 * 10**9, 60_000 * 10**9)
    assert (cost.bottleneck, cost.is_scaled) == ("model", False)
    assert "calculated, not measured, from the rates of a CPU, 2026-01-02" in cost.as_lines()
    assert "3.07 TB" in cost.as_lines()


def test_the_bottleneck_moves_with_the_images(rates: Path) -> None:
    assert plan_job(1, "convit_tiny", bytes_per_image=10_000_000, rates=rates).bottleneck == "decoding"
    assert plan_job(1, "convit_tiny", bytes_per_image=100, rates=rates).seconds["decoding"] == 0.001
    slow = {**KNOWN, "read": {"bytes_per_second": 1e5}}
    rates.write_text(json.dumps(slow))
    assert plan_job(1, "convit_tiny", rates=rates).bottleneck == "reading"


def test_other_models_are_scaled_by_their_operations(rates: Path) -> None:
    small = plan_job(1, "convit_small", rates=rates)
    assert (small.is_scaled, small.dim) == (True, 432)
    assert 0.05 < small.seconds["model"] < 0.15
    assert "(by its multiply-accumulates)" in small.as_lines()
    assert plan_job(1, "convit_small", dim=10, rates=rates).vector_bytes == 40


@pytest.mark.parametrize("wrong", [{"images": 0}, {"cores": 0}, {"dim": 0}, {"bytes_per_image": -1}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is .*, but must be at least 1"):
        plan_job(**{"images": 1, **wrong})


def test_measured_rates_are_within_reason() -> None:
    rates = json.loads(RATES.read_text())
    assert rates["models"]["convit_base"]["seconds"] > rates["models"]["convit_tiny"]["seconds"] > 0
    assert rates["decode"][0]["seconds"] < rates["decode"][1]["seconds"]
