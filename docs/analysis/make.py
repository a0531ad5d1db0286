"""Looks inside the bundled model and keeps what it finds in docs/analysis.

    python docs/analysis/make.py measure DATA [--split test]    ablations and non-locality, into two JSON files
    python docs/analysis/make.py draw                           figures of the weights and of public-domain photographs
    python docs/analysis/make.py write                          README.md from the JSON files; --check only compares

The first two write README.md too. DATA is what `convit ablate` takes. The photographs are the demo's (examples/photos,
public domain); no image of the data set is kept. The page's screenshot needs Debian's chromium.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from documents import PHOTOGRAPHS, keep_json, read_json, run_convit, run_tool, take_screenshot

DOCS = Path(__file__).resolve().parent
MODEL = "convit_mini_patch8_64.tiny_imagenet"
IMAGES = 1024  # that the paper averages non-locality over
FIGURES = ("cat", "coffee")
HEIGHT = 1960  # of the screenshot, pixels


def measure(data: str, split: str | None) -> None:
    """Run `convit ablate` and measure non-locality on evenly spaced images; keep both as JSON."""
    options = [*(["--split", split] if split else []), "--model", MODEL, "--device", "cpu"]
    run_convit("ablate", data, *options, "--output", DOCS / "ablation.json", "--overwrite")
    keep_json(DOCS / "attention.json", measure_attention(data, split))


def measure_attention(data: str, split: str | None) -> dict[str, Any]:
    """Gates, centers and non-locality of the bundled model; None for centers that are not defined."""
    import torch

    from convit.analysis import locality_centers
    from convit.analysis.explaining import load_plain
    from convit.data import EvenlySpaced, open_samples
    from convit.images import open_image
    from convit.training.epoch_log import measure
    from convit.transforms import create_transform, resolve_model_data_config

    model = load_plain(MODEL, device="cpu")
    transform = create_transform(**resolve_model_data_config(model))
    images = EvenlySpaced(open_samples(data, split=split), IMAGES)
    tensors = torch.stack([torch.as_tensor(transform(open_image(image.content))) for image in images])
    rows, columns = model.config.grid_size
    place = torch.cartesian_prod(torch.arange(float(rows)), torch.arange(float(columns)))
    return {
        "model": MODEL,
        "data": images.identity(),
        "images": len(tensors),
        "grid": [rows, columns],
        "uniform": round(float(torch.cdist(place, place).mean()), 4),
        **measure(model, tensors),
        "centers": _known(locality_centers(model).double().tolist()),
    }


def draw() -> None:
    """Draw the gates and centers, two photographs' explanations, and a page as a browser shows it."""
    import numpy as np

    found = read_json(DOCS / "attention.json")
    _draw_weights(np.array(found["gates"]), np.array(found["centers"], dtype=float), tuple(found["grid"]))
    for name in FIGURES:
        _explain(PHOTOGRAPHS / f"{name}.jpg", DOCS / f"{name}.png")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "uniform.html"
        _explain(PHOTOGRAPHS / "uniform.jpg", page, "--query", "2,3")
        take_screenshot(page, DOCS / "page.png", height=HEIGHT)


def render() -> str:
    """The text of README.md: no figure in it is typed in."""
    from convit.analysis.ablations import to_markdown

    ablation, attention = read_json(DOCS / "ablation.json"), read_json(DOCS / "attention.json")
    gated = len(attention["gates"])
    layers = "\n".join(
        f"| {number} | {'gated' if number <= gated else 'ordinary'} | {fmean(heads):.2f} | {min(heads):.2f} to "
        f"{max(heads):.2f} | {_gates_of(attention, number)} |"
        for number, heads in enumerate(attention["nonlocality"], start=1)
    )
    return f"""# What the bundled model learned

Made by `docs/analysis/make.py` from `ablation.json` and `attention.json` beside it, for `{attention["model"]}`.
The photographs are the demo's (public domain). Layers and heads are counted from 1, patches from 0.

## Gates and centers

A gate of 1 reads by place, 0 by content. Each head's learned offset is where its position attention is highest; heads
without such a place: {_without_center(attention["centers"])}.

![Gates by layer and head, and each head's learned offset on the patch grid](weights.png)

## How far each layer reads

Non-locality (the paper's Eq. 8), in patches, mean of {attention["images"]:,} images, on each layer's true input.
Attention that is everywhere alike would read {attention["uniform"]:.2f} patches far on this grid of
{attention["grid"][0]} x {attention["grid"][1]}. In the ordinary layers the class token's row and column are dropped and
the rows divided by what remains.

| layer | attention | mean of heads | heads | gates |
| --- | --- | ---: | --- | --- |
{layers}

## What is lost without a part

Made by `convit ablate`:

{to_markdown(ablation)}
## Two photographs and a page

`convit explain cat.jpg --model {attention["model"]} --output cat.png`:

![What the model's heads look at in a photograph of a cat](cat.png)

The same for a cup of coffee:

![What the model's heads look at in a photograph of a cup of coffee](coffee.png)

`convit explain uniform.jpg --model {attention["model"]} --query 2,3 --output uniform.html`, in a browser:

![The page, with a choice of layer and head](page.png)
"""


def _draw_weights(gates: Any, centers: Any, grid: tuple[int, int]) -> None:
    from matplotlib.figure import Figure

    from convit.analysis.drawing import CHANGES, draw_centers, draw_gates
    from convit.output.plots import png_of, styled

    with styled(**CHANGES):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=[1, 1.5])
        draw_gates(left.subplots(), gates)
        draw_centers(right, centers, gates, grid, across=3)
        (DOCS / "weights.png").write_bytes(png_of(figure))


def _explain(photograph: Path, output: Path, *options: str) -> None:
    drawing = ("--model", MODEL, "--device", "cpu", "--output", output, "--overwrite")
    run_convit("explain", photograph, *drawing, *options)


def _gates_of(attention: dict[str, Any], number: int) -> str:
    if number > len(attention["gates"]):
        return "none"
    heads = attention["gates"][number - 1]
    return f"{fmean(heads):.2f} ({min(heads):.2f} to {max(heads):.2f})"


def _without_center(centers: list[list[list[float | None]]]) -> str:
    named = [
        f"head {head} of layer {layer}"
        for layer, heads in enumerate(centers, start=1)
        for head, center in enumerate(heads, start=1)
        if None in center
    ]
    return ", ".join(named) or "none"


def _known(values: Any) -> Any:
    """Nested lists with 4 digits; None for NaN, which JSON does not have."""
    if isinstance(values, list):
        return [_known(value) for value in values]
    return None if math.isnan(values) else round(values, 4)


if __name__ == "__main__":
    sys.exit(run_tool(DOCS / "README.md", __doc__, render, measure, draw))
