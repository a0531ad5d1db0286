"""Timing things against each other on a machine that others use too."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def alternate(
    calls: Mapping[str, Callable[[], object]], rounds: int, settle: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Call each in turn, again and again, so that whatever slows the machine down slows down all of them.

    Args:
        calls: what to time, by name; each is called once beforehand to warm up.
        rounds: timed calls of each.
        settle: waits until the device has finished.

    Returns:
        Seconds of each call, by name.
    """
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


def summarise(seconds: list[float]) -> dict[str, float]:
    """Median, quartiles and minimum, in milliseconds."""
    low, _, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    chosen = {"median": statistics.median(seconds), "low": low, "high": high, "least": min(seconds)}
    return {name: round(1000 * value, 3) for name, value in chosen.items()}
