"""The values among which each probe chooses on training images."""

from __future__ import annotations

from collections.abc import Mapping

NEIGHBORS = (1, 5, 10, 20, 50, 100, 200)
STRENGTHS = tuple(10.0**power for power in range(-4, 3))  # C, from strong regularization to weak
ALPHAS = tuple(10.0**power for power in range(6, -3, -1))  # from strong regularization to weak

# a choice at one of these may have a better value beyond it; one neighbor is the fewest that there can be
ENDS: Mapping[str, frozenset[float]] = {
    "k": frozenset(NEIGHBORS[-1:]),
    "C": frozenset((STRENGTHS[0], STRENGTHS[-1])),
    "alpha": frozenset((ALPHAS[0], ALPHAS[-1])),
}
