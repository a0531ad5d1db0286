"""Differences between rows, in words."""

from __future__ import annotations

from collections.abc import Sequence

from convit.studies.scores import Scores
from convit.studies.study import Column


def tell_lead(scores: Scores, row: str, reference: str, columns: Sequence[Column]) -> str:
    """One sentence: by how many points a row leads another in each column, mean over the seeds.

    >>> tell_lead(Scores([]), "ConViT", "DeiT", [])
    'ConViT against DeiT: no run of both is done yet'
    """
    found = [(column.label, scores.difference(row, reference, column.label)) for column in columns]
    known = [(label, spread.mean) for label, spread in found if spread is not None]
    if not known:
        return f"{row} against {reference}: no run of both is done yet"
    if all(round(mean, 1) > 0 for _, mean in known):
        return f"{row} leads {reference} by {_join([_points(mean, label, '.1f') for label, mean in known])}"
    return f"{row} against {reference}: {_join([_points(mean, label, '+.1f') for label, mean in known])}"


def tell_certainty(scores: Scores, row: str, reference: str, columns: Sequence[Column]) -> list[str]:
    """Sentences on the columns where the seeds do not tell two rows apart, or a single one cannot; often none."""
    inside, single = list[str](), list[str]()
    for column in columns:
        ours, theirs = scores.cell(row, column.label), scores.cell(reference, column.label)
        if ours is None or theirs is None:
            continue
        if min(len(ours.values), len(theirs.values)) == 1:
            single.append(column.label)
        elif ours.overlaps(theirs):
            inside.append(column.label)
    told: list[str] = []
    if inside:
        told.append(
            f"{row} and {reference} lie inside each other's spread at {_join(inside)}: no difference is shown there."
        )
    if single:
        told.append(f"{row} or {reference} has a single seed at {_join(single)}: chance cannot be ruled out there.")
    return told


def _points(mean: float, label: str, form: str) -> str:
    return f"{mean:{form}} points at {label}"


def _join(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
