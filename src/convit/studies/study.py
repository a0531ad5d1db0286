"""What a study is: rows (models), columns (amounts of data), seeds, and what is read off the results."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convit.data import hold_out, open_dataset, take_share
from convit.data.locate import read_class_names
from convit.data.remote import is_remote
from convit.studies.scores import Scores
from convit.training.models import build_model
from convit.training.recipe import Recipe


@dataclass(frozen=True)
class Column:
    """An amount of training data.

    Attributes:
        label: what tables call it, such as "5 %".
        folder: its folder below a row's.
        position: where it stands on the figure's axis.
        share: part of the training images of each class, above 0 and up to 1.
        stretch: factor of the recipe's epochs, so that all columns take equally many steps.
    """

    label: str
    folder: str
    position: float
    share: float
    stretch: float


@dataclass(frozen=True)
class PlannedRun:
    """One training run of a study.

    Attributes:
        row: the model's label.
        column: the amount of data.
        recipe: the whole recipe, with share, epochs and seed.
        images: training images.
        params: parameters of the model.
    """

    row: str
    column: Column
    recipe: Recipe
    images: int
    params: int

    @property
    def folder(self) -> Path:
        """Its folder, relative to the study's."""
        return Path(folder_name(self.row), self.column.folder, f"seed-{self.recipe.seed}")


@dataclass(frozen=True)
class Study:
    """Runs and how to read them.

    Attributes:
        name: of the study, as the command line has it.
        title: first line of the table's file.
        rows: labels of the models, in order.
        columns: in order.
        runs: all of them, in the order in which they are run.
        headline: what the results show, in a line; it becomes the figure's title.
        axis: what the columns' positions are, for the figure; None draws one point per row instead of lines.
        comparisons: (row, reference) whose difference, seed by seed, gets a line in the table.
        paper_rows: lines below the table: label → column's label → top-1 in percent.
        paper_columns: columns beside the table: label → row → top-1 in percent.
        notes: sentences below the table, from the results.
    """

    name: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    runs: tuple[PlannedRun, ...]
    headline: Callable[[Scores], str]
    axis: str | None = None
    comparisons: tuple[tuple[str, str], ...] = ()
    paper_rows: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    paper_columns: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Callable[[Scores], list[str]] = lambda _: []


def plan_runs(
    rows: Mapping[str, Recipe], columns: Sequence[Column], seeds: int, data: str | Path
) -> tuple[PlannedRun, ...]:
    """One run for each row, column and seed.

    Seed by seed, so that a study that is cut off has whole comparisons.

    Args:
        rows: label → recipe, before share, epochs and seed are set.
        columns: amounts of data.
        seeds: how many, counted from the recipe's own.
        data: folder that the recipes' data paths start from.

    Raises:
        FileNotFoundError: the data are absent.
        ValueError: a model cannot be built, two labels mean one folder, the reader cannot take shares, there is no
            seed, or a column leaves fewer images than a batch.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}, but must be at least 1")
    _check_folders(rows)
    params = {row: sum(each.numel() for each in build_model(recipe).parameters()) for row, recipe in rows.items()}
    labels = training_labels(next(iter(rows.values())), data)
    runs: list[PlannedRun] = []
    for offset in range(seeds):
        for column in columns:
            for row, recipe in rows.items():
                planned = change(stretch(recipe, column.stretch), seed=recipe.seed + offset)
                planned = change(planned, "data", share=column.share)
                images = _count(labels, planned)
                runs.append(PlannedRun(row, column, planned, images, params[row]))
    return tuple(runs)


def stretch(recipe: Recipe, factor: float) -> Recipe:
    """The recipe with its epochs, and all that is counted in them, lengthened by a factor (paper Sec. 3, Tab. 2)."""
    schedule, off = recipe.schedule, recipe.mixing.off_epochs
    times: dict[str, Any] = {
        "epochs": max(1, round(schedule.epochs * factor)),
        "warmup_epochs": schedule.warmup_epochs * factor,
        "cooldown_epochs": round(schedule.cooldown_epochs * factor),
    }
    if schedule.final_epochs:
        times["final_epochs"] = max(1, round(schedule.final_epochs * factor))
    if schedule.patience is not None:
        times["patience"] = max(1, round(schedule.patience * factor))
    return change(change(recipe, "schedule", **times), "mixing", off_epochs=round(off * factor))


def change(recipe: Recipe, section: str | None = None, **values: Any) -> Recipe:
    """The recipe with some values of a section, or of its top, replaced and checked.

    Raises:
        ValueError: a value has the wrong type or range.
    """
    whole = recipe.model_dump(mode="json")
    (whole if section is None else whole[section]).update(values)
    return Recipe.model_validate(whole)


def fingerprint(recipe: Recipe) -> str:
    """The same for recipes that train the same, whatever they are called."""
    whole = {key: value for key, value in recipe.model_dump(mode="json").items() if key != "name"}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def training_labels(recipe: Recipe, data: str | Path) -> list[int]:
    """The class of every training image of a recipe, those held out and all shares included.

    Raises:
        FileNotFoundError: the data are absent.
        ValueError: they are not as they must be, or are read as a stream.
    """
    wanted = recipe.data
    if wanted.reader == "stream":
        raise ValueError("data.reader is 'stream', but a study takes shares of the data; use data.reader=memory")
    if not is_remote(data) and not Path(data).is_dir():
        raise FileNotFoundError(f"there is no folder {data}; give the folder of the recipe's data with --data")
    classes = read_class_names(Path(data, wanted.classes)) if wanted.classes else None
    return list(open_dataset(wanted.train, classes=classes, root=data).samples.labels)


def folder_name(label: str) -> str:
    """A label as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "-", label).strip("-.")


def _check_folders(rows: Mapping[str, Recipe]) -> None:
    owners: dict[str, str] = {}
    for row in rows:
        name = folder_name(row)
        if not name or name in owners:
            raise ValueError(
                f"the model {row!r} has no folder of its own ({name or 'no name is left'}); give it another label, as "
                f"in LABEL=NAME"
            )
        owners[name] = row


def _count(labels: Sequence[int], recipe: Recipe) -> int:
    kept, _ = hold_out(labels, recipe.data.held_out, recipe.seed)
    images = len(take_share([labels[position] for position in kept], recipe.data.share, recipe.seed))
    if images < recipe.run.batch_size:
        raise ValueError(
            f"a share of {recipe.data.share:g} leaves {images} of {len(labels)} images, fewer than a batch of "
            f"{recipe.run.batch_size}; take more, or set run.batch_size={images}"
        )
    return images
