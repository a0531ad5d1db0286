"""`convit explain`: what a model's heads look at in one image, as a figure or a page."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convit.cli import options
from convit.images.names import given_path, path_text
from convit.inference.options import parse_numbers, parse_size

if TYPE_CHECKING:
    from convit.analysis.explaining import Explanation

Image = Annotated[Path, typer.Argument(metavar="IMAGE", parser=given_path, help="Image to explain.")]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", help="Output file: a figure (.png) or a page (.html).")
]
Query = Annotated[
    str,
    typer.Option(
        metavar="ROW,COL|class|center",
        help="Query of the attention maps: a patch (row and column from 0), the class token, or the center patch.",
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        metavar="N,N-N",
        help="Layers, counted from 1.  [default: the first, the last gated and the last in a figure, all in a page]",
    ),
]
Heads = Annotated[str | None, typer.Option(metavar="N,N-N", help="Heads, counted from 1.  [default: all]")]
TopK = Annotated[int, typer.Option("--top-k", "-k", min=1, metavar="K", help="Number of classes to show.")]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="NAME",
        help="Class to show the map of, by name or number, instead of the likeliest ones; can be repeated.",
    ),
]


def explain(
    image: Image,
    output: Output,
    model: options.WeightSet = None,
    weights: options.Weights = None,
    query: Query = "center",
    layers: Layers = None,
    heads: Heads = None,
    top_k: TopK = 3,
    classes: Classes = None,
    device: options.Device = "auto",
    img_size: options.ImgSize = None,
    crop_pct: options.CropPct = None,
    exif: options.Exif = True,
    overwrite: options.Overwrite = False,
) -> None:
    """Show what a model's heads look at in one image.

    Shows the image as the model sees it, what the class token attends to in the last layers, attention rollout, the
    evidence for the likeliest class (or --class), the gates, each head's learned offset, and a query's attention by
    content, by position and blended, per layer and head; on a page, click to choose the query. Prints the path of the
    output, in a pipe as JSON.
    """
    size = parse_size(img_size)
    suffix = output.suffix.lower()
    if suffix not in (".png", ".html"):
        raise ValueError(f"{output} ends in neither .png nor .html; choose one of these suffixes")
    asked = parse_query(query)
    wanted = None if layers is None else parse_numbers("--layers", layers)
    of_heads = None if heads is None else parse_numbers("--heads", heads)
    from convit.output.files import check_output, check_packages, write_file

    check_output(output, overwrite=overwrite)
    check_packages("an explanation", "matplotlib", extra="plot")
    if suffix == ".html":
        check_packages("a page, other than a .png,", "jinja2", extra="plot")
    from convit.images import open_image

    picture = open_image(image, apply_exif=exif)  # before torch is imported and the model is loaded
    from convit.analysis.drawing import few_layers
    from convit.analysis.explaining import explain as look_into
    from convit.analysis.explaining import load_plain

    loaded = load_plain(model, weights, device=device, precision="fp32")
    if wanted is None and suffix == ".png":
        wanted = few_layers(loaded, of_class_token=asked is None)
    chosen: dict[str, Any] = {"query": asked, "layers": wanted, "heads": of_heads, "classes": classes or ()}
    chosen |= {"top_k": top_k, "img_size": size, "crop_pct": crop_pct}
    found = look_into(loaded, picture, **chosen, with_matrices=suffix == ".html")
    write_file(output, _render(replace(found, name=path_text(image)), as_page=suffix == ".html"), overwrite=overwrite)
    options.print_result(str(output), {"path": output})


def parse_query(text: str) -> tuple[int, int] | str | None:
    """Read `--query`: None for the class token, "center", or (row, column); raises `ValueError` for anything else.

    >>> parse_query("3,5"), parse_query("class"), parse_query("center")
    ((3, 5), None, 'center')
    """
    if text in ("class", "center"):
        return None if text == "class" else text
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isascii() and part.strip().isdigit() for part in parts):
        raise ValueError(f"--query is {text!r}, but must be ROW,COL such as 7,7, or 'class', or 'center'")
    return int(parts[0]), int(parts[1])


def _render(found: "Explanation", *, as_page: bool) -> str | bytes:
    if as_page:
        from convit.analysis.page import render_page

        return render_page(found)
    from convit.analysis.drawing import draw_explanation
    from convit.output.plots import png_of

    return png_of(draw_explanation(found))
