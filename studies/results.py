"""Results of runs, and what several seeds say together: spread, differences, table and figure."""

from __future__ import annotations

import json
import os
import platform
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from convit.output.files import write_file
from convit.output.plots import save_figure, series_look, styled
from convit.output.text import json_text

if TYPE_CHECKING:
    from studies.study import Column, Study

HELD_OUT = "training images held out"  # in the place of test images
OPEN = "–"  # in tables, for what is not done yet
SIDESTEP = 1.015  # lines of a figure stand this factor apart, so that their bars do not hide each other


@dataclass(frozen=True)
class Result:
    """What one run came to.

    Attributes:
        model: the row's label.
        column: the column's label.
        share: fraction of the training images of each class.
        seed: of the run.
        epochs: with cool-down.
        top1: of the final weights on the test images, percent; None where training diverged.
        test_images: how many they were.
        train_images: how many were trained on.
        seconds: time of the training epochs.
        params: parameters of the model.
        test: the test images, as they were named.
        recipe: fingerprint of the recipe.
        diverged: where and why training diverged; empty where it did not.
    """

    model: str
    column: str
    share: float
    seed: int
    epochs: int
    top1: float | None
    test_images: int
    train_images: int
    seconds: float
    params: int
    test: str
    recipe: str
    diverged: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        values = asdict(self)
        return values if self.diverged else {key: value for key, value in values.items() if key != "diverged"}

    def __str__(self) -> str:
        return "diverged" if self.top1 is None else f"top-1 {self.top1:.1f} %"


def read_result(path: Path) -> Result | None:
    """A run's `result.json`; None where there is none."""
    if not path.is_file():
        return None
    try:
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the result of a run; remove it, and the run is tested again") from error


@dataclass(frozen=True)
class Spread:
    """Values of several seeds.

    >>> str(Spread((44.9, 45.7))), f"{Spread((1.5, 2.5)):+.1f}"
    ('45.3 (44.9 to 45.7; 2 seeds)', '+2.0 (+1.5 to +2.5; 2 seeds)')
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the values."""
        return sum(self.values) / len(self.values)

    def overlaps(self, other: Spread) -> bool:
        """Whether the two ranges have a value in common."""
        return min(self.values) <= max(other.values) and min(other.values) <= max(self.values)

    def __str__(self) -> str:
        return format(self)

    def __format__(self, form: str) -> str:
        form = form or ".1f"
        if len(self.values) == 1:
            return f"{self.mean:{form}} (1 seed)"
        return f"{self.mean:{form}} ({min(self.values):{form}} to {max(self.values):{form}}; {len(self.values)} seeds)"


class Scores:
    """Top-1 of the runs that are done, by row, column and seed.

    Attributes:
        results: of runs with a top-1.
        diverged: of the others.
    """

    def __init__(self, results: Iterable[Result]) -> None:
        self.results, self.diverged = list[Result](), list[Result]()
        self._top1: dict[tuple[str, str], dict[int, float]] = {}
        for result in results:
            (self.diverged if result.top1 is None else self.results).append(result)
            if result.top1 is not None:
                self._top1.setdefault((result.model, result.column), {})[result.seed] = result.top1

    def cell(self, row: str, column: str) -> Spread | None:
        """Top-1 of a row and column over the seeds; None where no run is done."""
        found = self._top1.get((row, column))
        return Spread(tuple(found[seed] for seed in sorted(found))) if found else None

    def text(self, row: str, column: str) -> str:
        """What a table says of a row and column."""
        diverged = sum((each.model, each.column) == (row, column) for each in self.diverged)
        cell = self.cell(row, column)
        told = [*([str(cell)] if cell else []), *([f"{diverged} diverged"] if diverged else [])]
        return ", ".join(told) or OPEN

    def images_per_second(self, row: str) -> float | None:
        """Of a row's training, validation included; None where no run is done."""
        done = [result for result in self.results if result.model == row]
        images = sum(result.epochs * result.train_images for result in done)
        return images / sum(result.seconds for result in done) if done else None

    def difference(self, row: str, reference: str, column: str) -> Spread | None:
        """Row minus reference in points, over the seeds that both have; None where there is none."""
        ours, theirs = self._top1.get((row, column), {}), self._top1.get((reference, column), {})
        shared = sorted(ours.keys() & theirs.keys())
        return Spread(tuple(ours[seed] - theirs[seed] for seed in shared)) if shared else None


def describe_lead(scores: Scores, row: str, reference: str, columns: Sequence[Column]) -> str:
    """One sentence: by how many points a row leads another in each column, mean over the seeds."""
    found = [(column.label, scores.difference(row, reference, column.label)) for column in columns]
    known = [(label, spread.mean) for label, spread in found if spread is not None]
    if not known:
        return f"{row} against {reference}: no run of both is done yet."
    leads = all(round(mean, 1) > 0 for _, mean in known)
    points = _join([f"{mean:{'.1f' if leads else '+.1f'}} points at {label}" for label, mean in known])
    return f"{row} leads {reference} by {points}." if leads else f"{row} against {reference}: {points}."


def describe_certainty(scores: Scores, row: str, reference: str, columns: Sequence[Column]) -> list[str]:
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
        told.append(f"The ranges of {row} and {reference} overlap at {_join(inside)}: no difference is shown there.")
    if single:
        told.append(f"{row} or {reference} has a single seed at {_join(single)}: chance cannot be ruled out there.")
    return told


def as_markdown(study: Study, scores: Scores, command: str, machine: str) -> str:
    """A study's table, the sentences that follow from it, and how it was made."""
    head = ["top-1 (%)", "parameters", *(column.label for column in study.columns), *study.paper_columns]
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *_rows(study, scores)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    findings = study.findings(scores)
    sentences = "\n".join(f"- {sentence}" for sentence in [*findings, *_facts(study, scores)])
    figure = f"![{findings[0].rstrip('.')}](plot.svg)\n\n" if scores.results else ""
    return f"# {study.title}\n\n{table}\n\n{figure}{sentences}\n- Made on {machine}, with:\n\n      {command}\n"


def _rows(study: Study, scores: Scores) -> list[list[str]]:
    params = {each.model: f"{each.params / 1e6:.2f} M" for each in (*scores.results, *scores.diverged)}
    lines: list[list[str]] = []
    for row in study.rows:
        cells = [scores.text(row, column.label) for column in study.columns]
        paper = [_number(values.get(row)) for values in study.paper_columns.values()]
        lines.append([row, params.get(row, OPEN), *cells, *paper])
    for row, reference in study.comparisons:
        gaps = [scores.difference(row, reference, column.label) for column in study.columns]
        cells = [OPEN if gap is None else f"{gap:+.1f}" for gap in gaps]
        lines.append([f"**{row} − {reference}**, points", "", *cells, *[""] * len(study.paper_columns)])
    for label, values in study.paper_rows.items():
        lines.append([f"*{label}*", "", *(_number(values.get(column.label)) for column in study.columns)])
    return lines


def _facts(study: Study, scores: Scores) -> list[str]:
    """What was run, counted."""
    results = scores.results
    diverged = [
        f"{each.model}, {each.column}, seed {each.seed} has no top-1: {each.diverged}." for each in scores.diverged
    ]
    if not results:
        return diverged or [f"None of the {len(study.runs)} planned runs is done yet."]
    seen = sorted({result.epochs * result.train_images for result in results})
    spans = f"{seen[0]:,}" if seen[0] == seen[-1] else f"{seen[0]:,} to {seen[-1]:,}"
    missing = len(study.runs) - len(results) - len(diverged)
    left = f" {missing} planned runs are not done yet." if missing else ""
    tested = HELD_OUT if results[0].test == HELD_OUT else "test images"
    return [
        f"{len(results)} runs with seeds {', '.join(map(str, sorted({each.seed for each in results})))}, each over "
        f"{spans} images (epochs times training images), alike but for what rows and columns name; top-1 of the final "
        f"weights on {results[0].test_images:,} {tested}. In brackets: the least and the largest of the seeds.{left}",
        *diverged,
    ]


def draw(study: Study, scores: Scores) -> Figure:
    """A line per row over the amount of data, or without an axis a point per row; bars span the seeds."""
    with styled(axes_grid=True):
        height = 3.8 if study.axis is not None else 1.3 + 0.34 * len(study.rows) * len(study.columns) ** 0.5
        figure = Figure(figsize=(5.6, height), layout="constrained")
        axes = figure.add_subplot()
        (_draw_points if study.axis is None else _draw_lines)(axes, study, scores)
        if len(axes.containers) > 1:
            axes.legend(loc="best")
        title = textwrap.fill(study.findings(scores)[0].rstrip("."), 84)
        figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=9, parse_math=False)
    return figure


def _draw_lines(axes: Axes, study: Study, scores: Scores) -> None:
    places = [column.position for column in study.columns]
    for index, row in enumerate(study.rows):
        shift = SIDESTEP ** (index - (len(study.rows) - 1) / 2)
        cells = [scores.cell(row, column.label) for column in study.columns]
        _draw_spreads(axes, index, row, [place * shift for place in places], cells)
    axes.set_xscale("log")
    axes.set_xticks(places, [column.label for column in study.columns], parse_math=False)
    axes.minorticks_off()
    axes.set_xlabel(study.axis or "")
    axes.set_ylabel("top-1 (%)")


def _draw_points(axes: Axes, study: Study, scores: Scores) -> None:
    step = 0.5 / len(study.columns)
    for index, column in enumerate(study.columns):
        shift = step * (index - (len(study.columns) - 1) / 2)
        cells = [scores.cell(row, column.label) for row in study.rows]
        _draw_spreads(axes, index, column.label, [number + shift for number in range(len(cells))], cells, across=True)
    axes.set_yticks(range(len(study.rows)), labels=study.rows, parse_math=False)
    axes.set_ylim(len(study.rows) - 0.5, -0.5)
    axes.set_xlabel("top-1 (%)")
    if len(study.columns) == 1:
        axes.set_title(f"Trained on {study.columns[0].label} of the images", fontsize=9, color="0.3")


def _draw_spreads(
    axes: Axes,
    index: int,
    label: str,
    places: Sequence[float],
    cells: Sequence[Spread | None],
    *,
    across: bool = False,
) -> None:
    known = [(place, cell) for place, cell in zip(places, cells, strict=True) if cell is not None]
    if not known:
        return
    along, means = [place for place, _ in known], [cell.mean for _, cell in known]
    bars = [[cell.mean - min(cell.values) for _, cell in known], [max(cell.values) - cell.mean for _, cell in known]]
    look: dict[str, Any] = {
        **series_look(index),
        "linestyle": "none" if across else "-",
        "capsize": 3,
        "label": label,
    }
    if across:
        axes.errorbar(means, along, xerr=bars, **look)
    else:
        axes.errorbar(along, means, yerr=bars, **look)


def write_report(study: Study, scores: Scores, output: Path, command: str) -> None:
    """Write `results.json`, `table.md`, `plot.svg` and `plot.png`; runs that are not done yet are left open in them."""
    threads = torch.get_num_threads()
    cpu = f"{platform.machine()} CPU, {os.cpu_count()} cores, {threads} thread{'s' * (threads != 1)}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu
    machine = f"{device}; convit {version('convit')}, torch {version('torch')}"
    results = [result.to_dict() for result in (*scores.results, *scores.diverged)]
    kept = {"study": study.name, "command": command, "machine": machine, "results": results}
    write_json(output / "results.json", kept)
    write_file(output / "table.md", as_markdown(study, scores, command, machine), overwrite=True)
    figure = draw(study, scores)
    for suffix in ("svg", "png"):
        save_figure(figure, output / f"plot.{suffix}", overwrite=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file whole or not at all, in a folder that is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, json_text(content), overwrite=True)


def _number(value: float | None) -> str:
    return OPEN if value is None else f"{value:.1f}"


def _join(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
