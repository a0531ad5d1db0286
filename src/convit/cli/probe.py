"""`convit probe`: how much a model's embeddings know, by k nearest neighbors, linear probes and few-shot curves."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convit.cli import errors, options
from convit.inference.options import parse_numbers
from convit.weights.progress import bar

if TYPE_CHECKING:
    from convit.data import Samples
    from convit.evaluation.probes import Embedded, Probing

REPORT = ("probe.json", "probe.csv", "probe.txt", "few_shot.png")
Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Labeled images, as for convit evaluate. Splits train and val (or test) are used if there are any; "
        "otherwise, a fifth of each class is held out for testing.",
    ),
]
Split = Annotated[str | None, typer.Option(metavar="NAME", help="Split to train on.  [default: train]")]
Test = Annotated[str | None, typer.Option(metavar="DATA", help="Test on other data.")]
TestSplit = Annotated[str | None, typer.Option(metavar="NAME", help="Split to test on.  [default: val, or test]")]
Probes = Annotated[
    str,
    typer.Option(
        "--probe", metavar="NAME,...", help="Any of knn, linear and ridge; or none, for few-shot curves only."
    ),
]
Shots = Annotated[str, typer.Option(metavar="N,...", help="Training images per class for few-shot curves; or none.")]
Draws = Annotated[int, typer.Option(min=1, metavar="N", help="Number of random draws per point of a few-shot curve.")]
Kind = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="Which embedding: pooled, pre_logits; or the mean of tokens, patches, or layer:7 (those after block 7).",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Only N training and N test images, evenly spaced.  [default: all]"),
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Random seed of draws and held-out images.")]
Cache = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder where embeddings are cached.  [default: in convit's cache]")
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Do not read or write cached embeddings.")]
Report = Annotated[Path | None, typer.Option(metavar="DIR", help=f"Also write {', '.join(REPORT)} to this folder.")]


def probe(
    data: Data,
    model: options.Model = None,
    weights: options.Weights = None,
    split: Split = None,
    test: Test = None,
    test_split: TestSplit = None,
    probe: Probes = "knn,linear,ridge",
    shots: Shots = "1,2,5,10,50",
    draws: Draws = 5,
    kind: Kind = "pooled",
    limit: Limit = None,
    seed: Seed = 0,
    cache: Cache = None,
    no_cache: NoCache = False,
    target: Annotated[options.Target, options.results("table", "json", "csv")] = options.STDOUT,
    report: Report = None,
    lists: options.Lists = options.NO_LISTS,
    run: options.PlainRun = options.DEFAULTS,
) -> None:
    """Measure how much a model's embeddings know about classes that it may never have seen.

    Trains k nearest neighbors, logistic regression and ridge regression on embeddings, and class means and logistic
    regression on a few images per class; prints one table. All settings are chosen on training images. Images that
    cannot be read are named and left out, and the exit code is 3.
    """
    names = [] if probe.strip() == "none" else [name.strip() for name in probe.split(",")]
    per_class = "numbers of images per class, such as 1,5,10, or none"
    counts = [] if shots.strip() == "none" else sorted(set(parse_numbers("--shots", shots, per_class)))
    if cache is not None and no_cache:
        raise ValueError("--cache and --no-cache exclude each other; leave one of them out")
    if report is not None:
        _check_report(report, target, draws_curve=bool(counts))
    errors.say_reading(data, test)
    from convit.evaluation.probes import EmbeddingCache, check_probes, open_sets

    check_probes(names, counts, draws)
    kept = None if no_cache else EmbeddingCache(cache)
    sets = open_sets(lists.of(data), split=split, test=test and lists.of(test), test_split=test_split, limit=limit)

    from convit.evaluation.probes import identify
    from convit.evaluation.probes import probe as run_probes
    from convit.inference import Embedder

    embedder = Embedder(model, weights=weights, kind=kind, options=run)
    about = {"embedder": embedder, "made_by": identify(embedder, model, weights), "cache": kept}
    train = _embed("training images", sets.train, **about)
    tested = None if sets.test is None else _embed("test images", sets.test, **about)
    found = run_probes(train, tested, probes=names, shots=counts, draws=draws, seed=seed)
    _write(found, target)
    if report is not None:
        _write_report(found, report, overwrite=target.overwrite)
    if target.output is not None:
        errors.say(str(found))
    read = len(train.labels) + (0 if tested is None else len(tested.labels))
    errors.leave_if_unreadable(found.unreadable, read)


def _check_report(report: Path, target: options.Target, *, draws_curve: bool) -> None:
    from convit.output.files import check_packages
    from convit.output.folders import check_folder

    output = target.output
    if output is not None and output.resolve() in [(report / name).resolve() for name in REPORT]:
        raise ValueError(f"{output} is a file of the report itself; leave --output out, or choose another name")
    check_folder(report, REPORT, overwrite=target.overwrite)
    if draws_curve:
        check_packages("the figure of a report, which --shots none leaves out,", "matplotlib", extra="evaluate")


def _embed(what: str, images: "Samples", **about: Any) -> "Embedded":
    from convit.evaluation.probes import embed_labeled

    with bar(what, len(images)) as advance:
        return embed_labeled(images, advance=advance, **about)


def _write(found: "Probing", target: options.Target) -> None:
    from convit.evaluation.probes.report import write_table

    with target.text() as stream:
        if target.format == "table":
            write_table(found, stream)
        else:
            stream.write(found.to_json() if target.format == "json" else found.to_csv())


def _write_report(found: "Probing", report: Path, *, overwrite: bool) -> None:
    report.mkdir(parents=True, exist_ok=True)
    for format, name in zip(("json", "csv", "table"), REPORT, strict=False):  # noqa: A001
        _write(found, options.Target(report / name, format, overwrite))
    if not found.few_shot:
        (report / "few_shot.png").unlink(missing_ok=True)  # that of an earlier run, whose figures these are not
        return
    from convit.evaluation.plots import draw_few_shot
    from convit.output.plots import save_figure

    save_figure(draw_few_shot(found), report / "few_shot.png", overwrite=overwrite)
