"""What the studies share: planning the runs and doing those that are left.

A study trains one recipe many times. It varies the model (rows), the amount of training data (columns) and the seed. It
continues where it was interrupted, repeats no finished run, and gives every model the same recipe.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import safe_open

from convit.data import Samples, hold_out, open_samples, take_share
from convit.data.classes import read_classes
from convit.data.samples import Part
from convit.evaluation import Evaluator
from convit.output.text import read_lines
from convit.training.models import build_model, image_size
from convit.training.peers import is_peer
from convit.training.recipe import Recipe
from convit.training.recipe_io import read_recipe
from convit.training.run import WEIGHTS, run_recipe
from convit.training.task import DivergedError
from studies.results import HELD_OUT, Result, Scores, read_result, write_json, write_report

MARK, RESULT = "study.json", "result.json"


@dataclass(frozen=True)
class Column:
    """An amount of training data.

    Attributes:
        label: its name in tables, such as "5 %".
        folder: its folder below a row's.
        position: where it stands on the figure's axis.
        share: fraction of the training images of each class, above 0 and up to 1.
        stretch: factor of the recipe's epochs, so that all columns take equally many steps.
    """

    label: str
    folder: str
    position: float
    share: float
    stretch: float


@dataclass(frozen=True)
class Run:
    """One training run: the model's label, the amount of data, the whole recipe, training images, parameters."""

    row: str
    column: Column
    recipe: Recipe
    images: int
    params: int

    @property
    def folder(self) -> Path:
        """Its folder, relative to the study's."""
        return Path(folder_name(self.row), self.column.folder, f"seed-{self.recipe.seed}")

    def __str__(self) -> str:
        return f"{self.row}, {self.column.label}, seed {self.recipe.seed}"


@dataclass(frozen=True)
class Study:
    """Runs and how to read them.

    Attributes:
        name: of the study.
        title: first line of the table's file.
        rows: labels of the models, in order.
        columns: in order.
        runs: in the order in which they are run.
        findings: what the results show, in sentences; the first becomes the figure's title.
        axis: label of the figure's axis; None draws one point per row instead of lines over the columns.
        comparisons: (row, reference) whose difference, seed by seed, gets a line in the table.
        paper_rows: lines below the table: label → column's label → top-1 in percent.
        paper_columns: columns beside the table: label → row → top-1 in percent.
    """

    name: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    runs: tuple[Run, ...]
    findings: Callable[[Scores], list[str]]
    axis: str | None = None
    comparisons: tuple[tuple[str, str], ...] = ()
    paper_rows: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    paper_columns: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def plan_runs(rows: Mapping[str, Recipe], columns: Sequence[Column], seeds: int, data: str | Path) -> tuple[Run, ...]:
    """One run for each row, column and seed; seed by seed, so that an interrupted study has whole comparisons.

    Args:
        rows: label → recipe, before share, epochs and seed are set.
        columns: amounts of data.
        seeds: how many, counted from the recipe's own.
        data: folder that the recipes' data paths start from.

    Raises:
        FileNotFoundError: the data are absent.
        ValueError: a model cannot be built, two labels mean one folder, or a column leaves fewer images than a batch.
    """
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}, but must be at least 1")
    folders = [folder_name(row) for row in rows]
    for row, folder in zip(rows, folders, strict=True):
        if not folder or folders.count(folder) > 1:
            raise ValueError(f"the model {row!r} has no folder of its own ({folder}); give it another label")
    params = {row: sum(each.numel() for each in build_model(recipe).parameters()) for row, recipe in rows.items()}
    labels = training_labels(next(iter(rows.values())), data)
    runs: list[Run] = []
    for offset in range(seeds):
        for column in columns:
            for row, recipe in rows.items():
                planned = change(stretch(recipe, column.stretch), seed=recipe.seed + offset)
                planned = change(planned, "data", share=column.share)
                runs.append(Run(row, column, planned, _count(labels, planned), params[row]))
    return tuple(runs)


def stretch(recipe: Recipe, factor: float) -> Recipe:
    """The recipe with its epochs, and all that is counted in them, lengthened by a factor (paper Sec. 3, Tab. 2)."""
    schedule, off = recipe.schedule, recipe.mixing.off_epochs
    times: dict[str, Any] = {
        "epochs": max(1, round(schedule.epochs * factor)),
        "warmup_epochs": schedule.warmup_epochs * factor,
        "cooldown_epochs": round(schedule.cooldown_epochs * factor),
    }
    for name in ("final_epochs", "patience", "decay_epochs"):
        if getattr(schedule, name):
            times[name] = max(1, round(getattr(schedule, name) * factor))
    return change(change(recipe, "schedule", **times), "mixing", off_epochs=round(off * factor))


def change(recipe: Recipe, section: str | None = None, **values: Any) -> Recipe:
    """The recipe with some values of a section, or of its top, replaced and checked."""
    whole = recipe.model_dump(mode="json")
    (whole if section is None else whole[section]).update(values)
    return Recipe.model_validate(whole)


def epochs_factor(recipe: Recipe, epochs_at_full: float | None) -> float:
    """Factor of the recipe's epochs that gives `epochs_at_full` on all images; 1 where that is None."""
    if epochs_at_full is not None and not epochs_at_full > 0:
        raise ValueError(f"the epochs on all images are {epochs_at_full:g}, but must be above 0")
    return 1.0 if epochs_at_full is None else epochs_at_full / recipe.schedule.epochs


def fingerprint(recipe: Recipe) -> str:
    """The same for recipes that train the same, whatever their names are."""
    whole = {key: value for key, value in recipe.model_dump(mode="json").items() if key != "name"}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def training_labels(recipe: Recipe, data: str | Path) -> list[int]:
    """The class of every training image of a recipe, those held out included."""
    return list(_training_images(recipe, data).labels)


def _training_images(recipe: Recipe, data: str | Path) -> Samples:
    wanted = recipe.data
    if wanted.reader == "stream":
        raise ValueError("data.reader is 'stream', but a study takes shares of the data; use data.reader=memory")
    if not Path(data).is_dir():
        raise FileNotFoundError(f"there is no folder {data}; give the folder of the recipe's data with --data")
    classes = read_classes(Path(data, wanted.classes)) if wanted.classes else None
    return open_samples(wanted.train, classes=classes, root=data)


def _tested_images(study: Study, data: str | Path, test: str) -> dict[int, Samples]:
    """What the runs of each seed are tested on."""
    recipes = {run.recipe.seed: run.recipe for run in study.runs}
    if test != HELD_OUT:
        return dict.fromkeys(recipes, open_samples(test, root=data))
    whole = _training_images(study.runs[0].recipe, data)
    return {
        seed: Part(whole, hold_out(whole.labels, recipe.data.held_out, seed)[1]) for seed, recipe in recipes.items()
    }


def folder_name(label: str) -> str:
    """A label as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9._=-]+", "-", label).strip("-.")


def _count(labels: Sequence[int], recipe: Recipe) -> int:
    kept, _ = hold_out(labels, recipe.data.held_out, recipe.seed)
    images = len(take_share([labels[position] for position in kept], recipe.data.share, recipe.seed))
    if images < recipe.run.batch_size:
        raise ValueError(
            f"a share of {recipe.data.share:g} leaves {images} of {len(labels)} images, fewer than a batch of "
            f"{recipe.run.batch_size}; take more, or set run.batch_size={images}"
        )
    return images


def run_study(
    study: Study,
    data: str | Path,
    output: Path,
    test: str,
    *,
    reuse: Sequence[Path] = (),
    command: str = "",
    quiet: bool = False,
) -> Scores:
    """Do what is left of a study, and write its results, table and figure anew after each run.

    A run that diverges is a result too: the table says so, and the others go on.

    Args:
        study: what is run.
        data: folder that the recipes' data paths start from.
        output: folder of the study; each run has one below it.
        test: images for the final top-1, relative to `data`; or `HELD_OUT`, those that each run's recipe holds out.
        reuse: folders of other studies on the same data, whose finished runs of the same recipe are taken over.
        command: written under the table.
        quiet: shows no progress.

    Raises:
        FileNotFoundError: the data or a folder to reuse are absent.
        ValueError: `output` holds another study or runs of another recipe, or a recipe does not fit the data.
    """
    tested = _tested_images(study, data, test)  # refused before anything is trained
    others = _finished(reuse, test)
    _claim(output, study)
    done: list[Result] = []
    for number, run in enumerate(study.runs, start=1):
        folder, found = output / run.folder, others.get(fingerprint(run.recipe))
        result = read_result(folder / RESULT)
        if result is not None:
            _check_same(folder, run, result, test)
        elif found is not None:
            result = replace(found, model=run.row, column=run.column.label)
            write_json(folder / RESULT, result.to_dict())
        else:
            images = tested[run.recipe.seed]
            try:
                weights = _train(run, data, folder, quiet=quiet)
            except DivergedError as error:
                result = replace(_result(run, folder, test, None, len(images)), diverged=str(error))
            else:
                result = _result(run, folder, test, *measure_top1(run.recipe, weights, images))
            write_json(folder / RESULT, result.to_dict())
        done.append(result)
        if not quiet:
            print(f"run {number} of {len(study.runs)} ({run}): {result}", file=sys.stderr)
        write_report(study, Scores(done), output, command)
    return Scores(done)


def measure_top1(recipe: Recipe, weights: Path, test: Samples) -> tuple[float, int]:
    """Top-1 in percent in fp32 with the recipe's own preprocessing, and the number of test images."""
    model: Any = None
    if is_peer(recipe.model.architecture):  # another library's file does not describe itself to `Evaluator`
        model = build_model(recipe)
        model.load_state_dict(safetensors.torch.load_file(weights))
        with safe_open(weights, "pt") as file:
            card = json.loads(file.metadata()["recipe"])
        model.pretrained_cfg = {
            **{name: card[name] for name in ("mean", "std", "interpolation", "crop_pct", "crop_mode")},
            "input_size": (3, *image_size(model, recipe)),
            "label_names": card.get("classes"),
        }
    evaluator = Evaluator(model) if model is not None else Evaluator(weights=weights, precision="fp32")
    found = evaluator.evaluate(test)
    if found.unreadable:
        raise ValueError(f"{found.unreadable} test images cannot be read; the first: {found.errors[0]['error']}")
    return found.top1, found.count


def _claim(output: Path, study: Study) -> None:
    mark = output / MARK
    if mark.is_file():
        owner = json.loads(mark.read_text(encoding="utf-8")).get("study")
        if owner != study.name:
            raise ValueError(f"{output} holds the study {owner!r}, not {study.name!r}; choose another --output")
    elif output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} holds something other than a study; choose another --output")
    else:
        write_json(mark, {"study": study.name})


def _train(run: Run, data: str | Path, folder: Path, *, quiet: bool) -> Path:
    begun = (folder / "recipe.yaml").is_file()
    if begun and fingerprint(read_recipe(folder / "recipe.yaml")) != fingerprint(run.recipe):
        raise ValueError(_other_recipe(folder))
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    return run_recipe(run.recipe, data, folder, resume=begun, quiet=quiet)


def _check_same(folder: Path, run: Run, result: Result, test: str) -> None:
    if result.recipe != fingerprint(run.recipe):
        raise ValueError(_other_recipe(folder))
    if result.test != test:
        raise ValueError(
            f"{folder} was tested on {result.test}, not on {test}; choose another --output, or remove its {RESULT}"
        )


def _other_recipe(folder: Path) -> str:
    return f"{folder} holds a run of another recipe; repeat the study's first options, or choose another --output"


def _result(run: Run, folder: Path, test: str, top1: float | None, test_images: int) -> Result:
    return Result(
        model=run.row,
        column=run.column.label,
        share=run.recipe.data.share,
        seed=run.recipe.seed,
        epochs=run.recipe.schedule.total_epochs,
        top1=None if top1 is None else round(top1, 3),
        test_images=test_images,
        train_images=run.images,
        seconds=round(sum(line["seconds"] for line in read_lines(folder / "log.jsonl")), 3),
        params=run.params,
        test=test,
        recipe=fingerprint(run.recipe),
    )


def _finished(folders: Sequence[Path], test: str) -> dict[str, Result]:
    """Results below some folders by their recipe's fingerprint, those of the same test images."""
    found: dict[str, Result] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder} to reuse runs from; give that of a study")
        results = [read_result(file) for file in sorted(folder.rglob(RESULT))]
        found |= {result.recipe: result for result in results if result is not None and result.test == test}
    return found
