"""The options that several commands share, each said once: its name, its meaning and what `--help` shows of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from convit.inference.options import DEFAULT_MODEL
from convit.optimization.precision import Precision

T = TypeVar("T")

TRAINING_PACKAGES = ("lightning", "pydantic", "yaml", "fsspec")  # of the extra `train`

Paths = Annotated[list[Path], typer.Argument(metavar="PATH", help="Images, and folders of images.")]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help=f"A variant or weight set; `convit models` lists them.  [default: {DEFAULT_MODEL}]"
    ),
]
Weights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weights from a local file or folder instead of the model's own.")
]
Device = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|mps", help="Where to run; 'cuda:1' for the second GPU; auto: a GPU if there is one."
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        help="Arithmetic of the model; auto: fp32 on CPU, bf16 on a GPU that has it. int8 on a "
        "CPU needs the extra 'quantize' and chooses its ranges on some of the images themselves.",
    ),
]
PlainPrecision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option("--precision", help="Arithmetic of the model; auto: fp32 on CPU, bf16 on a GPU that has it."),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile the model: half a minute at the start, faster afterward.")
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Images per batch.  [default: 8 on CPU, 64 on a GPU]")
]
Workers = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Threads that read images; 0: none.  [default: from the cores]")
]
ImgSize = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW", help="Image size for the model, in pixels, height before width.  [default: the model's]"
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive/--no-recursive", help="Look into sub-folders.")]
Exif = Annotated[bool, typer.Option("--exif/--no-exif", help="Turn photographs the way their EXIF orientation says.")]
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
    typer.Option(
        "--decode", help="Where JPEG files are decoded; gpu needs --device cuda, and changes pixels a little."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write here instead of on the screen; the suffix chooses the format."
    ),
]
RowsOutput = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Write here: .jsonl, .json, .csv, .parquet, .md or .txt.  [default: a table, or JSON lines in a pipe]",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a setting of the recipe, such as data.workers=4; may be repeated."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No bars and no summary; errors still show.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


CALIBRATION_IMAGES = 64


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
