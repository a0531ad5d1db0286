"""A study as Markdown: one table, the sentences that follow from it, and how it was made."""

from __future__ import annotations

from convit.studies.scores import Scores
from convit.studies.study import Study

OPEN = "–"


def as_markdown(study: Study, scores: Scores, command: str, machine: str) -> str:
    """The whole file.

    Args:
        study: what was planned.
        scores: of the runs that are done.
        command: that made it.
        machine: that it ran on.
    """
    rows = [*_rows(study, scores), *_differences(study, scores), *_paper(study)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in [_head(study), _rule(study), *rows])
    sentences = "\n".join(
        f"- {note}" for note in [f"{study.headline(scores)}.", *study.notes(scores), *_facts(study, scores)]
    )
    figure = f"![{study.headline(scores)}](plot.svg)\n\n" if scores.results else ""
    return f"# {study.title}\n\n{table}\n\n{figure}{sentences}\n- Made on {machine}, with:\n\n      {command}\n"


def _head(study: Study) -> list[str]:
    return ["top-1 (%)", "parameters", *(column.label for column in study.columns), *study.paper_columns]


def _rule(study: Study) -> list[str]:
    return ["---", *["---:"] * (len(_head(study)) - 1)]


def _rows(study: Study, scores: Scores) -> list[list[str]]:
    lines: list[list[str]] = []
    for row in study.rows:
        params = scores.params(row)
        cells = [scores.cell(row, column.label) for column in study.columns]
        lines.append(
            [
                row,
                OPEN if params is None else f"{params / 1e6:.2f} M",
                *(OPEN if cell is None else str(cell) for cell in cells),
                *(_number(values.get(row)) for values in study.paper_columns.values()),
            ]
        )
    return lines


def _differences(study: Study, scores: Scores) -> list[list[str]]:
    lines: list[list[str]] = []
    for row, reference in study.comparisons:
        cells = [scores.difference(row, reference, column.label) for column in study.columns]
        lines.append(
            [
                f"**{row} − {reference}**, points",
                "",
                *(OPEN if cell is None else cell.signed() for cell in cells),
                *[""] * len(study.paper_columns),
            ]
        )
    return lines


def _paper(study: Study) -> list[list[str]]:
    return [
        [f"*{label}*", "", *(_number(values.get(column.label)) for column in study.columns)]
        for label, values in study.paper_rows.items()
    ]


def _facts(study: Study, scores: Scores) -> list[str]:
    """What was run, counted."""
    if not scores.results:
        return [f"None of the {len(study.runs)} planned runs is done yet."]
    results = scores.results
    seen = sorted({result.epochs * result.train_images for result in results})
    spans = f"{seen[0]:,}" if seen[0] == seen[-1] else f"{seen[0]:,} to {seen[-1]:,}"
    missing = len(study.runs) - len(results)
    left = f" {missing} planned runs are not done yet." if missing else ""
    return [
        f"{len(results)} runs with seeds {', '.join(str(seed) for seed in sorted({each.seed for each in results}))}, "
        f"each over {spans} images (epochs times training images), the same recipe for all; top-1 of the final weights "
        f"on {results[0].test_images:,} test images. In brackets: the least and the largest of the seeds.{left}"
    ]


def _number(value: float | None) -> str:
    return OPEN if value is None else f"{value:.1f}"
