"""Whether a run may begin or go on in a folder, and whether there is one to draw; imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from convit.images.names import not_found
from convit.training.recipe import Recipe

CHECKPOINTS = "step-*.ckpt"
RECIPE, LOG = "recipe.yaml", "log.jsonl"
# not corrupt.jsonl, which data.decode=once may leave of a run that never began
LEFT_BY_RUNS = (
    RECIPE, LOG, "checkpoints", "environment.yaml", "attention.jsonl",
    "weights.safetensors", "model.safetensors", "config.json", "report.html", "report.json",
)  # fmt: skip


def default_folder(recipe: Recipe) -> Path:
    """Where a run goes that nobody named a folder for: runs/NAME, after the recipe."""
    return Path("runs") / recipe.name


def last_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint with the most steps in a run's folder, or None."""
    return max(Path(folder, "checkpoints").glob(CHECKPOINTS), default=None)


def check_unused(folder: Path) -> None:
    """Refuse to begin a run in a folder that holds files of an earlier one, which would be lost.

    Raises:
        FileExistsError: the folder holds such files.
        NotADirectoryError: it is a file.
    """
    if folder.is_file():
        raise NotADirectoryError(f"{folder} is a file, but a run needs a folder; choose another --output")
    left = last_checkpoint(folder) or next((folder / name for name in LEFT_BY_RUNS if (folder / name).exists()), None)
    if left is not None:
        raise FileExistsError(
            f"{folder} holds a run already ({left.name}); go on with --resume, or choose another --output"
        )


def choose_checkpoint(folder: Path, *, resume: bool, first: bool = True) -> Path | None:
    """The checkpoint to go on from; None to begin. A job that SLURM requeued goes on by itself.

    Processes other than the run's `first` one may find what that has just written.

    Raises:
        FileExistsError, NotADirectoryError: as `check_unused`, unless the run goes on.
        FileNotFoundError: there is no run to resume.
    """
    resume, found = goes_on(folder, resume=resume), last_checkpoint(folder)
    if resume and not (folder / RECIPE).is_file():
        raise FileNotFoundError(
            f"there is no run in {folder}; start without --resume, or give the run's folder with --output"
        )
    if not resume and (first or found is not None):  # no checkpoint is written before all processes are there
        check_unused(folder)
    return found


def goes_on(folder: Path, *, resume: bool) -> bool:
    """Whether a run goes on: as asked, or because SLURM requeued its job after it had begun."""
    return resume or (was_requeued() and (folder / RECIPE).is_file())


def was_requeued() -> bool:
    """Whether SLURM requeued this job."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def may_have_begun() -> bool:
    """Whether an earlier process of the same run may have written to its folder already."""
    return "LOCAL_RANK" in os.environ or os.environ.get("SLURM_PROCID", "0") != "0"


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
