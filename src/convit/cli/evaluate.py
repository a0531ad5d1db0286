"""`convit evaluate`: how good a model is on labeled images; and whether one result is better than another."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from convit.cli import errors, options
from convit.cli.job_options import Address, Engine, check_engine
from convit.weights.progress import bar

if TYPE_CHECKING:
    from convit.data import Samples
    from convit.evaluation import Evaluation, Evaluator

Data = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        help="A folder with one subfolder per class; WebDataset shards or Parquet files: a file, a pattern such as "
        "'val-{000..004}.tar.gz', or a folder of them; a .csv of images and labels; hub:OWNER/NAME; cifar10:FOLDER; "
        "or ImageNet and its relatives "
        "as they are distributed: imagenet:FOLDER, imagenet-real:, imagenet-v2:, imagenet-a:, imagenet-r:, "
        "imagenet-sketch:.",
    ),
]
Split = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Split of the data: a subfolder, or a prefix of the shards' names."),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="JSON or CSV file that maps classes of the data to classes of the model, if names differ.",
    ),
]
Tta = Annotated[
    Literal["flip"] | None, typer.Option(help="Test-time augmentation: average each image with its mirror image.")
]
Calibrate = Annotated[
    bool,
    typer.Option(
        "--calibrate",
        help="Fit a temperature on these images, which must be neither trained nor tested on, and store it in the file "
        "of --weights: classify and evaluate then report calibrated probabilities.",
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Also write a page with plots and the worst mistakes, and tables per class and per image, to this folder.",
    ),
]
Compare = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        metavar="A.json B.json",
        help="Instead of evaluating, test whether two results on the same images differ significantly.",
    ),
]


def evaluate(
    data: Data = None,
    model: options.Model = None,
    weights: options.Weights = None,
    split: Split = None,
    classes: Classes = None,
    tta: Tta = None,
    target: Annotated[options.Target, options.results("table", "json")] = options.STDOUT,
    calibrate: Calibrate = False,
    report: Report = None,
    spreadsheet_safe: options.SpreadsheetSafe = False,
    compare: Compare = None,
    lists: options.Lists = options.NO_LISTS,
    run: options.EvaluationRun = options.DEFAULTS,
    engine: Engine = "local",
    address: Address = None,
) -> None:
    """Measure top-1, top-5, loss and calibration on a labeled data set, or compare two results.

    Subfolders, or a classes.json beside shards, are matched with the model's classes by name, by WordNet id or by
    number; shards without one hold the model's own class numbers. Images that cannot be read are named and left out of
    the metrics, and the exit code is 3. Intervals are 95 %, by bootstrap. Several processes can share the work, each
    image counted once: torchrun --nproc-per-node 2 -m convit evaluate DATA, which exits with 0 even if images cannot be
    read; or --engine ray.
    """
    if compare is not None:
        named = {"DATA": data, "--model": model, "--weights": weights, "--split": split, "--classes": classes}
        flags = {"--calibrate": calibrate or None, "--spreadsheet-safe": spreadsheet_safe or None}
        _compare(compare, target, {**named, "--tta": tta, "--report": report, **flags})
        return
    if data is None:
        raise ValueError("there are no images to evaluate on; name a folder or shards, or two results after --compare")
    check_engine(engine, address)
    if engine == "ray" or os.environ.get("WORLD_SIZE", "1") != "1":
        run.check_shared()
    if calibrate:
        _check_calibrate(weights, tta)
    if report is not None:
        from convit.evaluation import check_report

        if target.output is not None and target.output.resolve().parent == report.resolve():
            raise ValueError(f"{target.output} lies in the report's folder, which has its own files; choose another")
        check_report(report, overwrite=target.overwrite)
    if os.environ.get("RANK", "0") != "0":  # of several processes the first one speaks
        errors.quiet_output()
    errors.say_reading(data)
    from convit.data import evenly_spaced, open_samples

    reading: dict[str, Any] = {"source": lists.of(data), "split": split, "label_map": classes}
    images = open_samples(**reading)
    from convit.evaluation import Evaluator, join_processes, own_device

    run = replace(run, device=own_device(str(run.device)))
    if run.precision == "int8":
        chosen = images.take(evenly_spaced(options.CALIBRATION_IMAGES, len(images)))
        run = replace(run, calibration=[image.content for image in chosen])  # without their labels
    scoring: dict[str, Any] = {"model": model, "weights": weights, "tta": tta, "options": run}
    with join_processes() as processes, bar("images", len(processes.share(len(images)))) as advance:
        evaluator = Evaluator(**scoring)
        if engine == "ray":
            shared = {"data": reading, "model": scoring, "calibrate": calibrate, "advance": advance}
            evaluation = _on_ray(evaluator, images, address, shared)
        else:
            evaluation = evaluator.evaluate(images, advance, processes, calibrate=calibrate)
    if processes.writes:
        if calibrate and weights is not None:
            evaluation = _keep_temperature(evaluation, weights)
        _finish(evaluation, images, replace(target, spreadsheet_safe=spreadsheet_safe), report)
        # a process that leaves with a code of its own is a failed one to torchrun, which then says so at length
        if evaluation.errors and processes.count == 1:
            raise typer.Exit(errors.SOME_UNREADABLE)


def _on_ray(evaluator: "Evaluator", images: "Samples", address: str | None, shared: dict[str, Any]) -> "Evaluation":
    """Let actors score, which open the data and load the model by what they share."""
    from convit.scale.ray_cluster import ray_cluster
    from convit.scale.ray_evaluation import RayProcesses

    with ray_cluster("ray", address=address) as ray:
        processes = RayProcesses(ray=ray, batch_size=evaluator.batch_size, **shared)
        return evaluator.evaluate(images, processes=processes, calibrate=shared["calibrate"])


def _check_calibrate(weights: Path | None, tta: str | None) -> None:
    from convit.weights.files import described_file

    if weights is None or tta is not None:
        raise ValueError("--calibrate keeps a temperature in the file of --weights; name one, and leave --tta out")
    described_file(weights)


def _keep_temperature(evaluation: "Evaluation", weights: Path) -> "Evaluation":
    from convit.evaluation.report import keep_temperature

    fit = evaluation.temperature_fit
    if fit is None:
        errors.say("no temperature was kept: too few images or mistakes to learn from, or it would not lower the loss")
        return evaluation
    errors.say(
        f"temperature {fit['temperature']:.3f} is kept in {weights}; calibration error {fit['ece_before']:.2f} % "
        f"before, {fit['ece_after']:.2f} % after"
    )
    return keep_temperature(evaluation, weights)


def _finish(evaluation: "Evaluation", images: "Samples", target: options.Target, report: Path | None) -> None:
    from convit.evaluation import write_table

    with target.text() as stream:
        if target.format == "table":
            write_table(evaluation, stream)
        else:
            # the screen gets the figures; a file can be compared with another, which needs the images
            stream.write(evaluation.to_json(with_images=target.output is not None))
    if report is not None:
        from convit.evaluation import write_report

        safe = target.spreadsheet_safe
        write_report(evaluation, images, report, overwrite=target.overwrite, spreadsheet_safe=safe)
    if target.output is not None or report is not None:
        errors.say(str(evaluation))
    if report is not None:
        errors.say(f"the report is {report / 'index.html'}")
    if evaluation.errors:
        kept = target.output if target.output is not None and target.format == "json" else None
        errors.say_left_out(evaluation.count, evaluation.errors, kept if report is None else report / "index.html")


def _compare(files: tuple[Path, Path], target: options.Target, named: dict[str, object]) -> None:
    from convit.evaluation import compare, write_comparison
    from convit.output.text import json_text

    given = [name for name, value in named.items() if value is not None]
    if given:
        raise ValueError(f"--compare reads two results and evaluates nothing; leave {' and '.join(given)} out")
    comparison = compare(*files)
    with target.text() as stream:
        if target.format == "table":
            write_comparison(comparison, stream)
        else:
            stream.write(json_text(comparison.to_dict()))
