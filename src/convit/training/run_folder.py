"""A run's folder: its recipe and environment, and whether a run may go on there."""

from __future__ import annotations

import pickle
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml

from convit.data.corrupt import CorruptImages
from convit.data.identity import OF_LISTING, same_listing
from convit.inference import Classifier
from convit.model import ConViT
from convit.optimization.precision import describe_device, pick_device
from convit.output.files import write_file
from convit.output.text import first_line, made_with, read_lines, short
from convit.training.places import LOG, RECIPE
from convit.training.recipe import OF_EVALUATION, AugmentRecipe, OptimizerRecipe, Recipe
from convit.training.recipe_io import load_yaml, read_recipe
from convit.training.splits import Split
from convit.weights import load_model
from convit.weights.header import read_metadata

IDENTITY_KEY = "convit_run"
ENVIRONMENT = "environment.yaml"
WEIGHTS, UNREADABLE = "weights.safetensors", "corrupt.jsonl"
# sections of a recipe by which epochs are trained and measured, where they may change from epoch to epoch
_OF_EPOCHS = ("augment", "optimizer", "schedule", "mixing", "ema")
# what describes, or changes neither images nor steps
_CHANGEABLE = {"data": ("name", "terms", "decode", "workers", "corrupt_limit"), "augment": OF_EVALUATION}
PACKAGES = ("convit", "torch", "torchvision", "lightning", "pillow", "numpy", "timm")


class TrainingRun:
    """What a run left in its folder; also that of an earlier run, `TrainingRun("runs/mine")`.

    Attributes:
        folder: with checkpoints, logs and weights.
        weights: `weights.safetensors`, which describes itself.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.weights = self.folder / WEIGHTS

    @property
    def history(self) -> list[dict[str, Any]]:
        """A line per epoch, with "epoch", "train_loss", "val_loss", "val_top1" (percent), "lr" and "seconds"."""
        return read_lines(self.folder / LOG)

    @property
    def best(self) -> dict[str, Any]:
        """The line of the epoch whose weights were written; empty if there is none."""
        return dict(read_metadata(self.weights).get("outcome", {}))

    @property
    def report(self) -> Path | None:
        """`report.html`, where there is one."""
        return found if (found := self.folder / "report.html").is_file() else None

    @property
    def skipped(self) -> dict[str, str]:
        """Name and problem of each image that could not be read."""
        return CorruptImages(self.folder / UNREADABLE, 0).reasons()

    @property
    def images(self) -> int | None:
        """Number of training and validation images; None if the run did not say."""
        return _environment(self.folder).get("images")

    @cached_property
    def model(self) -> ConViT:
        """The trained model, in evaluation mode."""
        return load_model(self.weights)

    @cached_property
    def classifier(self) -> Classifier:
        """Labels images with the trained model."""
        return Classifier(weights=self.weights)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"


def identity(recipe: Recipe, split: Split) -> dict[str, Any]:
    """What must be the same where a run is resumed, with the fingerprints of its data."""
    whole = recipe.model_dump(mode="json")
    for section, changeable in _CHANGEABLE.items():
        for key in changeable:
            del whole[section][key]
    kept = {key: whole[key] for key in ("seed", "model", "data", "augment")}
    files = {"files": split.files, "validation_files": split.validation_files}
    return {**kept, "batch_size": recipe.run.batch_size, **files, "labels": split.labels}


def check_identity(checkpoint: Path, expected: Mapping[str, Any]) -> list[str]:
    """Refuse the checkpoint of another run.

    Returns:
        A line on each folder whose files were changed or copied since, with the same names and sizes.

    Raises:
        ValueError: it cannot be read, or it is of another run; the message names what differs.
    """
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True).get(IDENTITY_KEY, {})
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise ValueError(
            f"{checkpoint} cannot be read ({first_line(error)}); remove it, and --resume goes on from the one before it"
        ) from error
    # settings that came later had their defaults' effect before, and validation images and labels were not noted
    augment = AugmentRecipe().model_dump(mode="json") | found.get("augment", {})
    later = {key: expected[key] for key in ("validation_files", "labels") if found}
    found = {**later, **found, "augment": augment}
    for section in _CHANGEABLE:
        found[section] = {key: value for key, value in found.get(section, {}).items() if key in expected[section]}
    touched: list[str] = []
    for key, value in expected.items():
        before = found.get(key)
        if key in ("files", "validation_files") and before is not None and _same_files(before, value):
            touched += [name for name, mark in value.items() if OF_LISTING in before[name] and before[name] != mark]
        elif before != value:
            raise ValueError(
                f"{checkpoint} is of another run ({key} there: {short(before)}, here: {short(value)}); resume with "
                "its own recipe and data, or choose another --output"
            )
    return [
        f"files of {name} were changed or copied since the run began; names and sizes are the same, so it goes on, but "
        "it would not be exact with other contents"
        for name in touched
    ]


def _same_files(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether fingerprints are of the same data; checkpoints once held a hash of the contents of single files."""
    return before.keys() == now.keys() and all(
        same_listing(before[name], mark) or (OF_LISTING in mark and OF_LISTING not in before[name])
        for name, mark in now.items()
    )


def _check_changes(before: Recipe, now: Recipe, lines: Sequence[Mapping[str, Any]]) -> None:
    """Refuse changes with which the result would be a run of neither recipe, after epochs with these lines."""
    done, own = lines[-1]["epoch"] if lines else 0, now.augment.evaluated_crop
    if before.distillation != now.distillation:
        raise ValueError(
            "distillation has changed, so that the result would be taught in part only; resume with the run's own, or "
            "choose another --output"
        )
    chooses = now.run.select == "best" or now.schedule.patience is not None
    # logs did not say the crop before
    crops = [line.get("crop", before.augment.evaluated_crop) for line in lines if line.get("val_top1") is not None]
    others = [crop for crop in crops if crop != own]
    if chooses and others:
        raise ValueError(
            f"{len(others)} epoch{'s were' if len(others) > 1 else ' was'} measured with another augment.crop_pct or "
            f"crop_mode ({others[0]}, here it is {own}), so run.select=best and schedule.patience cannot compare "
            "them with later ones; resume with one crop for all epochs, or without these, or choose another --output"
        )
    if done > now.schedule.total_epochs:
        raise ValueError(
            f"{done} epochs are trained already, but schedule.epochs and cooldown_epochs are now "
            f"{now.schedule.total_epochs} in all; resume with {done} or more, or choose another --output"
        )
    sizes = [(each.final_img_size, each.early_epochs) for each in (before.schedule, now.schedule)]
    late_from = min((late for size, late in sizes if size is not None), default=done)
    if sizes[0] != sizes[1] and late_from < done:
        raise ValueError(
            f"schedule.final_epochs would have begun with epoch {late_from + 1}, but {done} epochs are trained already "
            "at other sizes; resume with the run's own, or choose another --output"
        )


def note_changes(folder: Path, recipe: Recipe, checkpoint: Path, *, finished: bool = False) -> list[str]:
    """Compare the recipe of a resumed run with the one of its folder, which is kept as recipe.before-STEP.yaml.

    `finished`: no step of the recipe is left.

    Returns:
        "section.key: old → new" for each setting that differs.

    Raises:
        ValueError: the optimizer's state would not fit the changed recipe, the result would be a run of neither, or a
            finished run would get the recipe of another training.
    """
    text, before = (folder / RECIPE).read_text(encoding="utf-8"), read_recipe(folder / RECIPE)
    if (was := _state_layout(before.optimizer)) != (now := _state_layout(recipe.optimizer)):
        raise ValueError(
            f"the run in {folder} was trained with {was}, here it is {now}, which its optimizer's state does not fit; "
            f"resume with the same, or choose another --output"
        )
    # lines of epochs that are done again are replaced
    done = [line for line in read_lines(folder / LOG) if line.get("step", 0) <= steps_of(checkpoint)]
    _check_changes(before, recipe, done)
    old, new = (_flat(each.model_dump(mode="json")) for each in (before, recipe))
    changes = [
        f"{key}: {short(old.get(key))} → {short(new.get(key))}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]
    too_late = [each for each in changes if re.split(r"[.:]", each)[0] in _OF_EPOCHS]
    if finished and too_late:
        raise ValueError(
            f"the run in {folder} is trained to its end, too late for {'; '.join(too_late)}; resume with the "
            "run's own, ask for more epochs, or choose another --output"
        )
    if changes:
        kept = folder / f"recipe.before-{steps_of(checkpoint)}.yaml"
        if not kept.exists():  # else nothing was trained by the recipe that is replaced
            write_file(kept, text)
    return changes


def steps_of(checkpoint: Path) -> int:
    """Number of steps that a checkpoint of ours was written after."""
    return int(checkpoint.stem.removeprefix("step-"))


def kept_precision(folder: Path) -> str | None:
    """The precision that the run in a folder began with; None if it did not say."""
    return _environment(folder).get("precision")


def _environment(folder: Path) -> dict[str, Any]:
    file = folder / ENVIRONMENT
    return load_yaml(file.read_bytes(), file) if file.is_file() else {}


def write_description(folder: Path, recipe: Recipe, split: Split, **choices: Any) -> None:
    """Write `recipe.yaml`, and `environment.yaml` with versions, device, choices and fingerprints of the data."""
    versions = made_with(*PACKAGES)["versions"]
    environment = {
        "python": versions.pop("python"),
        "packages": versions,
        "device": describe_device(pick_device()),
        **choices,
        "data_sha256": split.files,
        **({"validation_sha256": split.validation_files} if split.validation_files else {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((RECIPE, recipe.model_dump(mode="json")), (ENVIRONMENT, environment)):
        write_file(folder / name, yaml.safe_dump(content, sort_keys=False), overwrite=True)


def resume_command() -> str:
    """How the user goes on with this process's run."""
    program, *arguments = sys.argv
    if Path(program).stem not in ("convit", "__main__"):
        return "run_recipe(…, resume=True)"
    return shlex.join(["convit", *arguments, *([] if "--resume" in arguments else ["--resume"])])


def _state_layout(optimizer: OptimizerRecipe) -> str:
    """What decides which parameters share a group of the optimizer's state."""
    decay = "with" if optimizer.weight_decay else "without"
    return f"optimizer.name={optimizer.name} and layer_decay={optimizer.layer_decay} {decay} weight decay"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
