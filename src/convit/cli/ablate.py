"""`convit ablate`: what a model loses without its position embedding, or with its gates forced."""

from typing import Annotated, Literal

import typer

from convit.cli import errors, options
from convit.cli.evaluate import Split
from convit.weights.progress import bar

Data = Annotated[str, typer.Argument(metavar="DATA", help="Labeled images, as for 'convit evaluate'.")]
Experiment = Annotated[
    Literal["position-embedding", "gates"] | None,
    typer.Option("--experiment", help="Run only this experiment.  [default: both]"),
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only N images, evenly spaced.  [default: all]")]


def ablate(
    data: Data,
    model: options.WeightSet = None,
    weights: options.Weights = None,
    experiment: Experiment = None,
    split: Split = None,
    limit: Limit = None,
    lists: options.Lists = options.NO_LISTS,
    target: Annotated[options.Target, options.results("markdown", "json")] = options.STDOUT,
    run: options.AblationRun = options.DEFAULTS,
) -> None:
    """Measure what accuracy a trained model loses without some of its parts, next to the paper's figures.

    Masks the position embedding (the paper's Table 5), and forces the gates of the first 3, 5, 10 and all GPSA layers:
    no content, no position (Table 6). Nothing is trained, and no file is changed.
    """
    errors.say_reading(data)
    from convit.data import EvenlySpaced, open_samples

    images = open_samples(lists.of(data), split=split)
    if limit is not None:
        images = EvenlySpaced(images, limit)

    from convit.analysis.ablations import EXPERIMENTS, gated_layers_of, measurements, run_ablations, to_markdown
    from convit.analysis.explaining import load_plain
    from convit.evaluation import Evaluator
    from convit.evaluation.weights_used import find_weights_used
    from convit.output.files import hash_file
    from convit.output.text import json_text

    chosen = EXPERIMENTS if experiment is None else (experiment,)
    loaded = load_plain(model, weights, device=str(run.device), precision=run.precision)
    gated = gated_layers_of(loaded)
    file = find_weights_used(model, weights)
    digest = hash_file(file)
    evaluator = Evaluator(loaded, options=run, device="auto", precision="auto")  # as it was loaded
    total = len(images) * measurements(gated, chosen)
    with bar("images", total) as advance:
        found = run_ablations(evaluator, images, chosen, advance)
    # the evaluator was handed a model, whose file it does not know
    found["baseline"].update(weights=file.name, weights_sha256=digest)
    with target.text() as stream:
        stream.write(json_text(found) if target.format == "json" else to_markdown(found))
    baseline = found["baseline"]
    if baseline["unreadable"]:
        errors.say_left_out(baseline["count"], baseline["errors"], target.output if target.format == "json" else None)
        raise typer.Exit(errors.SOME_UNREADABLE)
