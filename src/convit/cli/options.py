"""The options that several commands share, each said once: its name, its meaning and what `--help` shows of it."""

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from convit.cli import errors
from convit.inference.options import DEFAULT_MODEL, RunOptions
from convit.optimization.precision import Precision

T = TypeVar("T")

TRAINING_PACKAGES = ("lightning", "pydantic", "yaml", "fsspec")  # of the extra `train`

Paths = Annotated[list[Path], typer.Argument(metavar="PATH", help="Images or folders of images.")]
Model = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"Model or weight set; see `convit models`.  [default: {DEFAULT_MODEL}]"),
]
Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Local weights (file or folder) instead of the published ones.")
]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|mps", help="Device to run on; auto: a GPU if available; 'cuda:1': the second GPU."
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="Numeric precision; auto: fp32 on a CPU, bf16 on a GPU that supports it. int8 on a CPU needs the extra "
        "'quantize' and is calibrated on some of the images themselves.",
    ),
]
PlainPrecision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option("--precision", help="Numeric precision; auto: fp32 on a CPU, bf16 on a GPU that supports it."),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the model first: takes half a minute, then runs faster.")
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Images per batch.  [default: 8 on CPU, 64 on a GPU]")
]
Workers = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Threads that read images; 0 for none.  [default: one per core]")
]
ImgSize = Annotated[
    str | None,
    typer.Option(metavar="N|HxW", help="Input size in pixels, height before width.  [default: the model's]"),
]
Recursive = Annotated[bool, typer.Option("--recursive/--no-recursive", help="Search subfolders too.")]
Exif = Annotated[
    bool,
    typer.Option(
        "--exif/--no-exif",
        help="Apply the EXIF orientation of photographs; published accuracies were measured without it.",
    ),
]
FastDecode = Annotated[
    bool,
    typer.Option(
        "--fast-decode",
        help="Decode large JPEG files at a fraction of their size, and resize only what the crop reads: for many large "
        "photographs; the pixels of each move by less than 5 of 255 levels on average.",
    ),
]
Decode = Annotated[
    Literal["cpu", "gpu"],
    typer.Option("--decode", help="Where to decode JPEG files; gpu needs --device cuda and changes pixels slightly."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to this file; its suffix selects the format."),
]
FORMAT = typer.Option(
    "--format", help="Output format.  [default: from the output's suffix; else a table on a terminal, jsonl in a pipe]"
)
RowsOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Output file: .jsonl, .json, .csv, .parquet, .md or .txt.  [default: a table, or JSON lines in a pipe]",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
Resume = Annotated[bool, typer.Option("--resume", help="Resume from the run's last checkpoint.")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a recipe setting, such as data.workers=4; can be repeated."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Hide progress bars and summaries; errors still show.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")]

# what `RunOptions` is made of at the command line, by field: the commands take `run` and not these one by one
EMBEDDING: dict[str, Any] = {"device": Device, "precision": PlainPrecision, "batch_size": BatchSize, "workers": Workers}
_PLAIN = {**EMBEDDING, "img_size": ImgSize, "apply_exif": Exif}
_EVALUATION = {**_PLAIN, "precision": PrecisionOption, "compile": Compile}
_ALL = {**_EVALUATION, "fast_decode": FastDecode, "decode": Decode}
EmbeddingRun = Annotated[RunOptions, EMBEDDING]
PlainRun = Annotated[RunOptions, _PLAIN]
EvaluationRun = Annotated[RunOptions, _EVALUATION]
Run = Annotated[RunOptions, _ALL]
DEFAULTS = RunOptions()

CALIBRATION_IMAGES = 64


def spell_out(command: Callable[..., None]) -> Callable[..., None]:
    """A command in the form that typer takes: with the options that its `run` is made of, and with `--debug`.

    Args:
        command: Its parameter `run`, if there is one, is annotated with one of `Run`, `EvaluationRun`, `PlainRun` and
            `EmbeddingRun`; the options' defaults are those of its own default. `--quiet` takes effect before it runs.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[Parameter] = []
    of_run: dict[str, Any] = {}
    for each in signature(command).parameters.values():
        if each.name == "run":
            of_run = hints["run"].__metadata__[0]
            parameters += [_parameter(name, option, getattr(each.default, name)) for name, option in of_run.items()]
        else:
            parameters.append(_parameter(each.name, hints[each.name], each.default))
    parameters.append(_parameter("debug", Debug, False))

    def spelled_out(debug: bool, **given: Any) -> None:  # `debug` is read before options are parsed, see `main`
        if of_run:
            run = {name: given.pop(name) for name in of_run}
            if "img_size" in run:
                run["img_size"] = parse_size(run["img_size"])
            given["run"] = RunOptions(**run)
        if given.get("quiet"):
            errors.quiet_output()
        command(**given)

    spelled_out.__doc__ = command.__doc__
    spelled_out.__signature__ = Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    spelled_out.__annotations__ = {each.name: each.annotation for each in parameters}
    return spelled_out


def _parameter(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def spread(items: Sequence[T], count: int = CALIBRATION_IMAGES) -> list[T]:
    """Some of the items, evenly from first to last.

    >>> spread(range(10), 4)
    [0, 2, 5, 7]
    """
    from convit.data import evenly_spaced

    return [items[place] for place in evenly_spaced(count, len(items))]


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """Read `--img-size`: one number (square) or height x width, in pixels.

    Raises:
        ValueError: if the text is neither.

    >>> parse_size("224"), parse_size("112x448")
    (224, (112, 448))
    """
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and int(side) > 0 for side in sides):
        raise ValueError(
            f"--img-size is {text!r}, but must be a number of pixels or HEIGHTxWIDTH, such as 224 or 112x448"
        )
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))
