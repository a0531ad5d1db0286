"""`convit export`: a model as a folder for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convit.cli import options
from convit.export.formats import ExportSettings, FormatName, Input, Outputs, Precision

if TYPE_CHECKING:
    from convit.model import ConViT

Name = Annotated[
    str | None,
    typer.Argument(metavar="NAME|FILE|FOLDER", help="Model or weight set (see `convit models`), weight file or run."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder to write.")]
To = Annotated[FormatName, typer.Option("--to", help="Format.")]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW|dynamic",
        help="Size of the images, height before width; dynamic: any in whole patches.  [default: the model's]",
    ),
]
As = Annotated[Precision, typer.Option("--precision", help="Numeric precision of the file.")]
Takes = Annotated[
    Input, typer.Option("--input", help="uint8: pixel values, normalized inside; float: normalized images.")
]
Gives = Annotated[
    Outputs | None, typer.Option("--outputs", help="What the file gives.  [default: both, where the model has both]")
]
Opset = Annotated[int | None, typer.Option(metavar="18|23", help="ONNX opset.  [default: 23; in int8 18]")]
List = Annotated[bool, typer.Option("--list", help="Show the formats and what is installed, and exit.")]


def export(
    model: Name = None,
    output: Output = None,
    to: To = "onnx",
    size: Size = None,
    precision: As = "fp32",
    input: Takes = "uint8",  # noqa: A002
    outputs: Gives = None,
    opset: Opset = None,
    list: List = False,  # noqa: A002
    overwrite: options.Overwrite = False,
) -> None:
    """Write a model as a folder for another runtime, after its results there were compared with PyTorch's.

    Above the limit (5e-6 of the largest value in fp32, 2e-2 in half precision) nothing is written.
    """
    if list:
        _show_formats()
        return
    if model is None or output is None:
        raise ValueError("name a model and --output, or give --list")
    is_dynamic = size == "dynamic"
    sides = None if is_dynamic else options.parse_size(size)
    settings = ExportSettings(
        to, precision, (sides, sides) if isinstance(sides, int) else sides, is_dynamic, input, outputs, opset
    )
    from convit.export.exporting import FILES, export_model
    from convit.output.folders import check_whole_folder

    check_whole_folder(output, FILES, overwrite=overwrite)
    loaded = load_named(model)
    proof = export_model(loaded, output, settings, overwrite=overwrite)
    options.print_result(str(output), {"path": output, **proof.to_dict()})


def _show_formats() -> None:
    raise NotImplementedError


def load_named(name: str) -> ConViT:
    """Load the model that a name, weight file or run's folder stands for.

    Raises:
        As `convit.weights.create_model` and `load_model`.
    """
    from convit.model import VARIANTS
    from convit.weights import WEIGHT_SETS, create_model, load_model
    from convit.weights.weight_sets import split_source

    if not split_source(name)[0] and name not in (*VARIANTS, *WEIGHT_SETS) and Path(name).expanduser().exists():
        return load_model(Path(name).expanduser())
    return create_model(name, pretrained=True)
