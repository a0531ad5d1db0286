"""Running a study: one run after the other, each kept, none done twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from convit.output.json_lines import read_lines
from convit.studies.reporting import write_json, write_report
from convit.studies.scores import Result, Scores, read_result
from convit.studies.study import PlannedRun, Study, fingerprint
from convit.studies.testing import measure_top1, open_test
from convit.training.recipe_io import read_recipe
from convit.training.run import WEIGHTS, run_recipe
from convit.training.schedule import total_epochs

MARK = "study.json"
RESULT = "result.json"

_log = logging.getLogger(__name__)


def run_study(
    study: Study,
    data: str | Path,
    output: str | Path,
    test: str,
    *,
    reuse: Sequence[str | Path] = (),
    command: str = "",
    quiet: bool = False,
) -> Scores:
    """Do what is left of a study, and write its results, table and figure anew after each run.

    A run that was cut off goes on from its last checkpoint; one that is done is not done again.

    Args:
        study: what is run.
        data: folder that the recipes' data paths start from.
        output: folder of the study; each run has one below it.
        test: images for the final top-1, as `convit.data.open_dataset` takes them, relative to `data`.
        reuse: folders of other studies on the same data; their finished runs of the same recipe are taken over.
        command: written under the table.
        quiet: shows no bars.

    Returns:
        All results of the study's runs.

    Raises:
        FileNotFoundError: the data or a folder to reuse are absent.
        ValueError: `output` holds another study or runs of another recipe, or a recipe does not fit the data.
        DivergedError: a loss became infinite or no number.
        OSError: nothing can be written.
    """
    output = Path(output)
    images = open_test(study.runs[0].recipe, data, test)
    others = _finished(reuse, test)
    _claim(output, study)
    done: list[Result] = []
    for number, run in enumerate(study.runs, start=1):
        folder = output / run.folder
        name = f"run {number} of {len(study.runs)} ({run.row}, {run.column.label}, seed {run.recipe.seed})"
        result = read_result(folder / RESULT)
        if result is not None:
            _check_same(folder, run, result, test)
            done.append(result)
            continue
        found = others.get(fingerprint(run.recipe))
        if found is not None:
            result = replace(found, model=run.row, column=run.column.label)
            folder.mkdir(parents=True, exist_ok=True)
        else:
            epochs = total_epochs(run.recipe.schedule)
            _log.info("%s: %d images, %d epoch%s", name, run.images, epochs, "s" * (epochs != 1))
            weights = _train(run, data, folder, quiet=quiet)
            top1 = measure_top1(run.recipe, weights, images)
            result = _result(run, folder, top1, len(images), test)
        write_json(folder / RESULT, result.to_dict())
        done.append(result)
        _log.info("%s: top-1 %.1f %%, %.0f s%s", name, result.top1, result.seconds, ", taken over" if found else "")
        write_report(study, Scores(done), output, command)
    scores = Scores(done)
    write_report(study, scores, output, command)
    return scores


def _claim(output: Path, study: Study) -> None:
    """Make the folder this study's own.

    Raises:
        ValueError: it holds something else.
    """
    mark = output / MARK
    if mark.is_file():
        try:
            owner = json.loads(mark.read_text(encoding="utf-8"))["study"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{mark} does not say whose folder it is in; choose another --output") from error
        if owner != study.name:
            raise ValueError(f"{output} holds the study {owner!r}, not {study.name!r}; choose another --output")
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} holds something else than a study; choose another --output")
    output.mkdir(parents=True, exist_ok=True)
    write_json(mark, {"study": study.name})


def _train(run: PlannedRun, data: str | Path, folder: Path, *, quiet: bool) -> Path:
    weights, begun = folder / WEIGHTS, (folder / "recipe.yaml").is_file()
    if begun and fingerprint(read_recipe(folder / "recipe.yaml")) != fingerprint(run.recipe):
        raise ValueError(_other_recipe(folder))
    if weights.is_file():
        return weights
    return run_recipe(run.recipe, data, folder, resume=begun, quiet=quiet)


def _check_same(folder: Path, run: PlannedRun, result: Result, test: str) -> None:
    if result.recipe != fingerprint(run.recipe):
        raise ValueError(_other_recipe(folder))
    if result.test != test:
        raise ValueError(
            f"{folder} was tested on {result.test}, not on {test}; choose another --output, or remove its {RESULT}"
        )


def _other_recipe(folder: Path) -> str:
    return (
        f"{folder} holds a run of another recipe; repeat what the study began with (recipe, --set, --epochs-at-full), "
        f"or choose another --output"
    )


def _result(run: PlannedRun, folder: Path, top1: float, test_images: int, test: str) -> Result:
    return Result(
        model=run.row,
        column=run.column.label,
        share=run.recipe.data.share,
        seed=run.recipe.seed,
        epochs=total_epochs(run.recipe.schedule),
        top1=round(top1, 3),
        test_images=test_images,
        train_images=run.images,
        seconds=round(sum(line["seconds"] for line in read_lines(folder / "log.jsonl")), 1),
        params=run.params,
        test=test,
        recipe=fingerprint(run.recipe),
    )


def _finished(folders: Sequence[str | Path], test: str) -> dict[str, Result]:
    """Results below some folders by their recipe's fingerprint, those of the same test images."""
    found: dict[str, Result] = {}
    for folder in folders:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"there is no folder {folder} to reuse runs from; give that of a study")
        for file in sorted(Path(folder).rglob(RESULT)):
            result = read_result(file)
            if result is not None and result.test == test:
                found[result.recipe] = result
    return found
