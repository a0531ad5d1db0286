"""`convit plan`: what a large job will cost, calculated."""

from dataclasses import asdict
from typing import Annotated

import typer

from convit.cli import options

Images = Annotated[float, typer.Option(min=1, metavar="N", help="Number of images, such as 1e9.")]
Bytes = Annotated[int, typer.Option(min=1, metavar="N", help="Average size of an image file, bytes.")]
Model = Annotated[str, typer.Option(metavar="NAME", help="Model or weight set; see `convit models`.")]
Dim = Annotated[int | None, typer.Option(min=1, metavar="N", help="Numbers per vector.  [default: the model's]")]
Cores = Annotated[int, typer.Option(min=1, metavar="N", help="CPU cores that work at once.")]


def plan(
    images: Images,
    bytes_per_image: Bytes = 110_000,
    model: Model = "convit_base",
    dim: Dim = None,
    cores: Cores = 64,
    target: Annotated[options.Target, options.results("text", "json")] = options.STDOUT,
) -> None:
    """Calculate what embedding many images costs: core hours, storage, and which step takes the most.

    Nothing is run: the numbers follow from rates that were measured on one machine, which the result names.
    """
    from convit.output.text import json_text
    from convit.scale.planning import plan_job

    cost = plan_job(round(images), model, bytes_per_image=bytes_per_image, dim=dim, cores=cores)
    with target.text() as stream:
        stream.write(json_text(asdict(cost)) if target.format == "json" else cost.as_lines())
