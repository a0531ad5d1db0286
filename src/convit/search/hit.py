"""What a search finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hit:
    """One picture that a search found.

    Attributes:
        rank: from 1.
        path: relative to the indexed folder.
        score: cosine similarity to the query, -1 to 1.
        label: the name of the folder that it lies in; None at the top.
        width, height: pixels, upright.
    """

    rank: int
    path: str
    score: float
    label: str | None
    width: int
    height: int
