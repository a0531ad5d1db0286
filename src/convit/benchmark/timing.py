"""Timing things against each other on a machine that others use too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def alternate(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    settle: Callable[[], object] = lambda: None,
    warm_ups: int = 1,
) -> dict[str, list[float]]:
    """Call each in turn, again and again, so that whatever slows the machine down slows down all of them.

    Args:
        calls: what to time, by name.
        rounds: timed calls of each.
        settle: waits until the device has finished.
        warm_ups: untimed calls of each, before the first that counts.

    Returns:
        Seconds of each call, by name.
    """
    for _ in range(warm_ups):
        for call in calls.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            settle()
            start = time.perf_counter()
            call()
            settle()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def settling(device: torch.device) -> Callable[[], object]:
    """What waits until a device has finished; nothing to wait for on a CPU."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    if device.type == "mps":
        return torch.mps.synchronize
    return lambda: None


def summarize(seconds: list[float]) -> dict[str, float]:
    """Median, quartiles ("low", "high") and minimum ("least"), in milliseconds.

    >>> summarize([0.001, 0.002, 0.004])["median"]
    2.0
    """
    low, _, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    chosen = {"median": statistics.median(seconds), "low": low, "high": high, "least": min(seconds)}
    return {name: round(1000 * value, 3) for name, value in chosen.items()}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """What 50, 90 and 99 of a hundred calls stay within ("p50", "p90", "p99"), in milliseconds.

    >>> percentiles([number / 1000 for number in range(1, 102)])
    {'p50': 51.0, 'p90': 91.0, 'p99': 100.0}
    """
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    return {f"p{share}": round(1000 * cuts[share - 1], 3) for share in (50, 90, 99)}
