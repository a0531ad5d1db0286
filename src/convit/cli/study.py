"""`convit study`: many training runs of one recipe, as a table and a figure."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from convit.cli import options
from convit.cli.train import Data

if TYPE_CHECKING:
    from convit.studies.study import Study
    from convit.training.recipe import Recipe

Name = Literal["sample-efficiency", "ablation", "transfer"]

Kind = Annotated[
    Name,
    typer.Argument(
        metavar="STUDY",
        help="sample-efficiency (models on shares of the data), ablation (gates and initialization, the paper's Table "
        "3), or transfer (fine-tuning against training from scratch).",
    ),
]
RecipeFile = Annotated[
    Path, typer.Option(metavar="FILE", help="Recipe of all runs, such as recipes/study_cifar10.yaml.")
]
Test = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Test images, relative to --data, in any form that training takes.  [default: the recipe's "
        "data.validation]",
        show_default=False,
    ),
]
Shares = Annotated[
    str | None,
    typer.Option(
        metavar="S,S,...",
        help="Shares of the training images of each class.  [default: 0.05,0.1,0.3,1; ablation: 0.1]",
        show_default=False,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "--models",
        metavar="[LABEL=]NAME[,OPTION=VALUE...]",
        help="A model of sample-efficiency: a variant or timm:NAME with its options; may be repeated, or several with "
        "spaces between in quotes. The first is compared with the others.  [default: the recipe's ConViT, and "
        "the same with local_up_to_layer=0]",
        show_default=False,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE", help="Pretrained weights that transfer starts from.", show_default=False),
]
Images = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,...", help="Numbers of training images of transfer.  [default: 100,1000,10000]", show_default=False
    ),
]
Seeds = Annotated[int, typer.Option(min=1, metavar="N", help="Runs of each, counted from the recipe's seed.")]
EpochsAtFull = Annotated[
    float | None,
    typer.Option(
        metavar="E",
        help="Epochs on all images; on a share s there are E/s.  [default: the recipe's]",
        show_default=False,
    ),
]
StudyFolder = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Folder of the study; finished runs in it are kept.  [default: runs/ and the study's name]",
        show_default=False,
    ),
]
Reuse = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DIR",
        help="Another study on the same data whose finished runs of equal recipe are taken over; may be repeated.",
        show_default=False,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="CPU threads to compute with.  [default: all cores]", show_default=False),
]


def study(
    kind: Kind,
    recipe: RecipeFile,
    data: Data = ".",
    test: Test = None,
    shares: Shares = None,
    models: Models = None,
    weights: Weights = None,
    images: Images = None,
    seeds: Seeds = 3,
    epochs_at_full: EpochsAtFull = None,
    output: StudyFolder = None,
    reuse: Reuse = None,
    changes: options.Changes = None,
    threads: Threads = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train one recipe many times and show what differs, as a table with the spread of the seeds and a figure.

    Runs are done one after the other, each in a folder of its own. The same command goes on where it was cut off and
    does no finished run again; more shares, models or seeds only add runs. Prints the path of the table.
    """
    given = {"--shares": shares, "--model": models, "--weights": weights, "--images": images}
    _check_options(kind, given)
    try:
        from convit.studies.running import run_study
        from convit.training.recipe_io import read_recipe
    except ModuleNotFoundError as error:
        raise ImportError(
            f"a study needs the package '{error.name}'; install it with: pip install 'convit[train,plot]'"
        ) from error
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    if quiet:
        from convit.cli.messages import quiet_output

        quiet_output()
    chosen = read_recipe(recipe, changes or [])
    tested = _choose_test(test, chosen)
    folder = output or Path("runs") / kind
    planned = _plan(kind, chosen, data, given, seeds, epochs_at_full)
    command = _command(kind, recipe, data, tested, given, seeds, epochs_at_full, changes or [], reuse or [], threads)
    run_study(planned, data, folder, tested, reuse=reuse or [], command=command, quiet=quiet)
    if not quiet:
        typer.echo(str(folder / "table.md"))


def _check_options(kind: Name, given: dict[str, Any]) -> None:
    """Refuse options that this study does not have, and those that are missing.

    Raises:
        ValueError: there is such an option.
    """
    taken = {"sample-efficiency": {"--shares", "--model"}, "ablation": {"--shares"}}
    known = taken.get(kind, {"--weights", "--images"})
    for option, value in given.items():
        if value is not None and option not in known:
            raise ValueError(f"{option} is no option of the study {kind}, which has {', '.join(sorted(known))}")
    if kind == "transfer" and given["--weights"] is None:
        raise ValueError("transfer needs pretrained weights; name a weight set or a file with --weights")


def _choose_test(test: str | None, recipe: Recipe) -> str:
    chosen = test or recipe.data.validation
    if not isinstance(chosen, str):
        raise ValueError("there are no test images; name them with --test, such as --test test-000000.tar.gz")
    return chosen


def _plan(
    kind: Name, recipe: Recipe, data: str, given: dict[str, Any], seeds: int, epochs_at_full: float | None
) -> Study:
    from convit.studies.specs import read_counts, read_models, read_shares

    if kind == "transfer":
        from convit.studies.transfer import plan_transfer

        counts = read_counts(given["--images"] or "100,1000,10000")
        return plan_transfer(recipe, given["--weights"], counts, seeds, data, epochs_at_full)
    if kind == "ablation":
        from convit.studies.ablation import plan_ablation

        return plan_ablation(recipe, read_shares(given["--shares"] or "0.1"), seeds, data, epochs_at_full)
    from convit.studies.sample_efficiency import default_models, plan_sample_efficiency

    models = read_models(given["--model"] or default_models(recipe), recipe)
    shares = read_shares(given["--shares"] or "0.05,0.1,0.3,1")
    return plan_sample_efficiency(recipe, models, shares, seeds, data, epochs_at_full)


def _command(
    kind: Name,
    recipe: Path,
    data: str,
    test: str,
    given: dict[str, Any],
    seeds: int,
    epochs_at_full: float | None,
    changes: list[str],
    reuse: list[Path],
    threads: int | None,
) -> str:
    """What to type for the same study again."""
    words = ["convit", "study", kind, "--recipe", str(recipe), "--data", data, "--test", test]
    several = {**given, "--set": changes, "--reuse": reuse}
    for option, value in {**several, "--epochs-at-full": epochs_at_full, "--threads": threads}.items():
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                words += [option, f"{each:g}" if isinstance(each, float) else str(each)]
    return shlex.join([*words, "--seeds", str(seeds)])
