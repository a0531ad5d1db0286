"""The command line of the studies: their common options, and what a mistake looks like."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from convit.training.recipe import Recipe
from convit.training.recipe_io import read_recipe
from studies.results import HELD_OUT
from studies.study import Study, run_study


def options(about: str) -> argparse.ArgumentParser:
    """The options that all studies have."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True, type=Path, help="recipe of all runs")
    parser.add_argument("--data", default=".", help="folder that the recipe's data paths start from")
    parser.add_argument(
        "--test", help="test images, relative to --data; the recipe's data.validation or held_out unless given"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each, counted from the recipe's seed")
    parser.add_argument("--epochs-at-full", type=float, help="epochs on all images; the recipe's unless given")
    parser.add_argument("--output", type=Path, help="folder of the study; its finished runs are kept")
    parser.add_argument("--reuse", type=Path, action="append", default=[], help="another study with runs to take over")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--quiet", action="store_true")
    return parser


def main(
    parser: argparse.ArgumentParser,
    plan: Callable[[Recipe, argparse.Namespace], Study],
    words: Sequence[str] | None = None,
) -> None:
    """Read the command line, run the study, and print the path of its table.

    A mistake in what was given exits with 2 and one line.
    """
    given = parser.parse_args(words)
    if given.threads:
        torch.set_num_threads(given.threads)
    try:
        recipe = read_recipe(given.recipe, given.set)
        test = given.test or recipe.data.validation or (HELD_OUT if recipe.data.held_out else None)
        if not isinstance(test, str):
            raise ValueError("there are no test images; name them with --test, such as --test test-000000.tar.gz")
        study = plan(recipe, given)
        output = given.output or Path("runs") / study.name
        command = shlex.join(["python", f"studies/{study.name.replace('-', '_')}.py", *(words or sys.argv[1:])])
        run_study(study, given.data, output, test, reuse=given.reuse, command=command, quiet=given.quiet)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if not given.quiet:
        print(output / "table.md")


def numbers(text: str, kind: Callable[[str], Any], most: float, what: str) -> list[Any]:
    """Ascending numbers above 0 from a text with commas between them.

    >>> numbers("0.1,0.05", float, 1, "a share above 0 and up to 1")
    [0.05, 0.1]
    """
    found: set[Any] = set()
    for part in text.split(","):
        try:
            number = kind(part)
        except ValueError:
            number = 0
        if not 0 < number <= most:
            raise ValueError(f"{part.strip()!r} in {text!r} is not {what}")
        found.add(number)
    return sorted(found)
