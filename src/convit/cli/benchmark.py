"""`convit benchmark`: how fast a model is, against others, side by side in one process."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from convit.cli import errors, options
from convit.inference.options import parse_numbers, parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convit.benchmark import Row
    from convit.benchmark.explaining import Explanation

Models = Annotated[str, typer.Option("--model", metavar="NAME[,..]", help="Models, weight sets or exported folders.")]
Against = Annotated[
    str | None,
    typer.Option(
        metavar="WHO[,..]",
        help="Others: timm:NAME, torchvision:NAME, eager (our model as create_model returns it), triton (with our "
        "kernel, on GPUs), plain (its plain twin); each may end in @PRECISION, +amp or +compile.  "
        "[default: what suits the model]",
    ),
]
Precisions = Annotated[
    str,
    typer.Option(
        "--precision", metavar="P[,..]", help="auto, fastest, fp32, bf16, fp16, fp8, int8; training: fp32, bf16."
    ),
]
Batches = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="N[,..]",
        help="Batch sizes.  [default: 8 on CPU, 64 on a GPU; 1 for latency and memory]",
    ),
]
Sizes = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="N|HxW[,..]", help="Image sizes in pixels, height before width.  [default: the model's]"
    ),
]
Mode = Annotated[
    Literal["infer", "train", "latency", "memory"],
    typer.Option(
        help="Images per second; training steps; percentiles of single calls; memory and time per image size."
    ),
]
Compile = Annotated[bool, typer.Option("--compile", help="Run our model through torch.compile too.")]
Threads = Annotated[int | None, typer.Option(min=1, metavar="N", help="Number of CPU threads.")]
Rounds = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Timed calls of each; at least 5 for meaningful quartiles.  [default: the mode's]",
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Also write results.json to this folder.")
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Show which code path was taken and why, and where the time goes.")
]


def benchmark(
    model: Models = "convit_base",
    against: Against = None,
    device: options.Device = "auto",
    precision: Precisions = "fp32",
    batch: Batches = None,
    size: Sizes = None,
    mode: Mode = "infer",
    compile: Compile = False,  # noqa: A002  # the option's name
    threads: Threads = None,
    rounds: Rounds = None,
    weights: options.Weights = None,
    output: Output = None,
    explain: Explain = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Measure the speed of a model next to that of others, in one process.

    Candidates take turns; medians and quartiles are shown. Candidates for the same model get the same weights, and
    their outputs are compared before anything is timed; if they differ, the benchmark stops. Our model runs in the form
    that `convit.optimize` returns or, in training, as it is. A variant gets random weights, a weight set its own.
    """
    from convit.inference.models import check_model

    models = _words(model, "--model")
    for name in models:
        check_model(name, None)
    others = None if against is None else _words(against, "--against")
    precisions, sizes = _words(precision, "--precision"), _sizes(size)
    batches = [None] if batch is None else parse_numbers("--batch", batch, "numbers of images, such as 1,8,64")
    if output is not None:
        from convit.output.folders import check_folder

        check_folder(output, ("results.json",), overwrite=overwrite)
    from convit.benchmark import make_cases, run_cases, start_report

    cases = make_cases(
        models,
        others,
        precisions,
        sizes,
        batches,
        mode=mode,
        device=device,
        compiled=compile,
        rounds=rounds,
        threads=threads,
        weights=None if weights is None else str(weights),
    )
    if rounds is not None and rounds < 5:
        errors.say("fewer than 5 rounds: medians and quartiles say little")
    report = start_report(cases[0])
    try:
        for rows in run_cases(cases, report, explains=explain):
            _show(rows, report.explanations[-1:])
    except BaseException as error:
        if output is not None and report.rows:
            error.add_note(f"what was measured before is in {report.write(output, overwrite=overwrite)}")
        raise
    if output is not None:
        errors.say(f"wrote {report.write(output, overwrite=overwrite)}")


def _show(rows: Sequence[Row], explanations: Sequence[Explanation]) -> None:
    """A table for people, JSON lines in a pipe."""
    from convit.benchmark import print_explanation, print_rows
    from convit.output.console import is_terminal
    from convit.output.text import as_json

    if is_terminal(sys.stdout):
        print_rows(rows, sys.stdout)
        for explanation in explanations:
            print_explanation(explanation, sys.stdout)
        return
    for each in (*rows, *explanations):
        sys.stdout.write(as_json(asdict(each)) + "\n")
    sys.stdout.flush()


def _words(text: str, option: str) -> list[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ValueError(f"{option} is {text!r}, but must be names with commas between them")
    return words


def _sizes(text: str | None) -> list[tuple[int, int] | None]:
    if text is None:
        return [None]
    sizes = [parse_size(word, "--size") for word in _words(text, "--size")]
    return [(size, size) if isinstance(size, int) else size for size in sizes]
