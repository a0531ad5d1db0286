"""`convit train`: train a model from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convit.cli import options

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file; see recipes/ for examples.")]
Data = Annotated[str, typer.Option(metavar="DIR|URL", help="Base folder or URL of the recipe's data paths.")]
RunFolder = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Folder of the run.  [default: runs/NAME, after the recipe]"),
]


def train(
    recipe: RecipeFile,
    data: Data = ".",
    output: RunFolder = None,
    resume: options.Resume = False,
    changes: options.Changes = None,
    quiet: options.Quiet = False,
) -> None:
    """Train a model from a recipe; writes checkpoints, logs and weights.safetensors to the run's folder."""
    from convit.output.files import check_packages

    check_packages("training", *options.TRAINING_PACKAGES, extra="train")
    from convit.training.recipe_io import read_recipe
    from convit.training.run import run_recipe

    chosen = read_recipe(recipe, changes or [])
    weights = run_recipe(chosen, data, output or Path("runs") / chosen.name, resume=resume, quiet=quiet)
    if not quiet:
        typer.echo(str(weights))
