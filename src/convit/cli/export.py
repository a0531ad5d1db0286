"""`convit export`: a model as a folder for other runtimes; `convit push`: a trained one as a repository of the hub."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convit.cli import errors, options
from convit.export.formats import FORMATS, ExportSettings, Input, Outputs, Precision
from convit.inference.options import parse_size

if TYPE_CHECKING:
    from convit.model import ConViT

Name = Annotated[
    str | None,
    typer.Argument(metavar="NAME|FILE|FOLDER", help="Model or weight set (see `convit models`), weight file or run."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder to write.")]
To = Annotated[str, typer.Option("--to", metavar="|".join(FORMATS), help="Format.")]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW|dynamic",
        help="Size of the images, height before width; dynamic: any multiple of the patch size.  "
        "[default: the model's]",
    ),
]
As = Annotated[Precision, typer.Option("--precision", help="Numeric precision of the file.")]
Takes = Annotated[
    Input | None,
    typer.Option("--input", help="uint8: pixel values, normalized inside; float: normalized images.  [default: uint8]"),
]
Gives = Annotated[
    Outputs | None, typer.Option("--outputs", help="Outputs of the file.  [default: both, if the model has both]")
]
Opset = Annotated[int | None, typer.Option(metavar="18|23", help="ONNX opset.  [default: 23; in int8 18]")]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Images to compare on, and to calibrate int8: a folder, or labeled data as for `convit evaluate`.  "
        "[default: smooth color fields]",
    ),
]
List = Annotated[bool, typer.Option("--list", help="Show the formats and what is installed, and exit.")]


def export(
    model: Name = None,
    output: Output = None,
    to: To = "onnx",
    size: Size = None,
    precision: As = "fp32",
    input: Takes = None,  # noqa: A002
    outputs: Gives = None,
    opset: Opset = None,
    data: Data = None,
    lists: options.Lists = options.NO_LISTS,
    list: List = False,  # noqa: A002
    overwrite: options.Overwrite = False,
) -> None:
    """Export a model to a folder for another runtime, after comparing its results there with PyTorch's.

    If they differ by more than 5e-6 of the largest value in fp32, or 2e-2 in half precision, nothing is written.
    """
    if list:
        _show_formats()
        return
    if model is None or output is None:
        raise ValueError("name a model and --output, or give --list")
    if data is None and lists != options.NO_LISTS:
        raise ValueError("--images and --allow-outside say where the images of --data are; give it, or leave them out")
    is_dynamic = size == "dynamic"
    sides = None if is_dynamic else parse_size(size, "--size")
    settings = ExportSettings(
        to, precision, (sides, sides) if isinstance(sides, int) else sides, is_dynamic, input, outputs, opset
    )
    import torch

    from convit.export.exporting import export_model
    from convit.export.folder import FILES
    from convit.export.images import read_images
    from convit.optimization.precision import is_emulated
    from convit.output.folders import check_whole_folder

    check_whole_folder(output, FILES, overwrite=overwrite)
    if precision == "int8" and data is None:
        raise ValueError("--precision int8 takes its ranges from images: give --data, a folder of at least 264 of them")
    from convit.weights import create_model, load_model
    from convit.weights.weight_sets import local_weights

    path = local_weights(model)
    loaded = create_model(model, pretrained=True) if path is None else load_model(path)
    images = None if data is None else read_images(lists.of(data), loaded)
    proof = export_model(loaded, output, settings, images, overwrite=overwrite, source=_source_of(loaded, model, path))
    if proof.warning:
        errors.tell(f"warning: {proof.warning}")
    if settings.form.runtime == "torch" and is_emulated(precision, torch.device("cpu")):
        told = f"this processor has no instructions for {precision}"
        errors.tell(f"warning: {told}, so that the file takes several times as long here as one in fp32")
    kept = "" if proof.top1_agreement is None else f", same first class on {proof.top1_agreement:.1f} %"
    found = "written, but not compared"
    if proof.largest is not None:
        found = f"{proof.largest:.1e} of the largest value from PyTorch on {proof.images:,} images{kept}"
    options.print_result(f"{output}: {found}", {"path": output, **asdict(proof)})


def _show_formats() -> None:
    rows: list[dict[str, Any]] = [
        {
            "format": form.name,
            "precisions": list(form.precisions),
            "size": "fixed or dynamic" if form.dynamic_size else "fixed",
            "batch": form.batch or "any",
            "note": form.note,
            "installed": not form.missing,
            "needs": f"pip install 'convit[{form.extra}]'" if form.missing else "",
        }
        for form in FORMATS.values()
    ]
    lines = [
        f"{row['format']:12} {', '.join(row['precisions']):18} {row['size']:18} {row['needs'] or 'installed'}"
        + (f"; {row['note']}" if row["note"] else "")
        for row in rows
    ]
    options.print_result("\n".join(lines), {"formats": rows})


def _source_of(model: ConViT, name: str, path: Path | None) -> dict[str, str | None]:
    """Where a model comes from: its name, and the hash of its weights, by which an index knows it."""
    from convit.evaluation.weights_used import find_weights_used
    from convit.output.files import hash_file

    card = model.pretrained_cfg
    return {
        "name": f"{card['architecture']}.{card['tag']}" if card.get("tag") else card.get("architecture"),
        "sha256": hash_file(find_weights_used(name, path)),
        "run": path.resolve().name if path is not None and path.is_dir() else None,
    }


Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or a weight file.")]
Repository = Annotated[
    str, typer.Argument(metavar="OWNER/NAME[@BRANCH]", help="Repository on the hub; created if needed.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Upload; without it, only show what would be uploaded.")]
Private = Annotated[bool, typer.Option("--private", help="Make a new repository private.")]
Message = Annotated[str | None, typer.Option("--message", "-m", metavar="TEXT", help="Commit message.")]
License = Annotated[
    str | None, typer.Option("--license", metavar="ID", help="License of the weights, such as apache-2.0.")
]


def push(
    run: Run,
    name: Repository,
    yes: Yes = False,
    private: Private = False,
    message: Message = None,
    terms: License = None,
) -> None:
    """Upload a model to the Hugging Face hub: weights, config.json and a model card with the measured figures.

    convit, timm and transformers can then load it by its name. Without --yes, nothing is sent. The token is that of
    `hf auth login` or HF_TOKEN.
    """
    from convit.weights import upload

    prepared = upload.prepare_upload(run, name, terms=terms)
    if prepared.not_timm is not None:
        errors.tell(f"warning: timm and transformers cannot build this model: {prepared.not_timm}")
    if prepared.stale:
        errors.tell(f"warning: left out of the card, since they measured other weights: {', '.join(prepared.stale)}")
    address = upload.push(prepared, private=private, message=message) if yes else None
    repo = prepared.repo
    known = {"repository": repo.name, "revision": repo.revision, "files": prepared.sizes, "uploaded": address}
    lines = [f"{size:>13,} bytes  {file}" for file, size in prepared.sizes.items()]
    if yes:
        options.print_result("\n".join([*lines, f"uploaded: {address}"]), known)
        return
    head = f"{repo.name} ({repo.revision}) would get:"
    tail = ["", prepared.card.strip(), "", "nothing was uploaded; add --yes to upload"]
    options.print_result("\n".join([head, *lines, *tail]), {**known, "card": prepared.card})
