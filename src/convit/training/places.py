"""Whether a run may begin or go on in a folder, and whether there is one to draw; imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from convit.images.names import not_found
from convit.training.recipe import Recipe

CHECKPOINTS = "step-*.ckpt"
RECIPE, LOG = "recipe.yaml", "log.jsonl"


def default_folder(recipe: Recipe) -> Path:
    """Where a run goes that nobody named a folder for: runs/NAME, after the recipe."""
    return Path("runs") / recipe.name


def last_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint with the most steps in a run's folder, or None."""
    return max(Path(folder, "checkpoints").glob(CHECKPOINTS), default=None)


def choose_checkpoint(folder: Path, *, resume: bool) -> Path | None:
    """The checkpoint to go on from; None to begin. A job that SLURM started again goes on by itself.

    Raises:
        FileExistsError: the folder holds a run already, and `resume` is false.
        FileNotFoundError: there is no run to resume.
    """
    resume = resume or was_requeued()
    found = last_checkpoint(folder)
    if resume and not (folder / RECIPE).is_file():
        raise FileNotFoundError(
            f"there is no run in {folder}; start without --resume, or give the run's folder with --output"
        )
    if not resume and found is not None:
        raise FileExistsError(
            f"{folder} holds a run already ({found.name}); go on with --resume, or choose another --output"
        )
    return found


def was_requeued() -> bool:
    """Whether SLURM started this job again, so that it must go on by itself."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def find_log(folder: Path) -> Path:
    """The log of a run.

    Raises:
        FileNotFoundError: there is no such folder, or no log in it.
    """
    if not folder.is_dir():
        raise not_found(folder, f"there is no run {folder}; give the folder that `convit train` wrote (its --output)")
    if not (folder / LOG).is_file():
        raise FileNotFoundError(f"there is no log.jsonl in {folder}; give a run's folder, with an epoch trained")
    return folder / LOG
