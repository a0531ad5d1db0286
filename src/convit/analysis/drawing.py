"""An explanation as a figure: what the class token reads, the gates, the heads' centers, and the query layer by layer.

Needs matplotlib, the extra `plot`.
"""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float32, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from convit.analysis.explaining import Explanation, LayerView
from convit.evaluation.page import percent
from convit.model import ConViT
from convit.output.plots import styled

# its lightness rises evenly from black to light yellow: the order survives gray print and every kind of color vision
COLORS = "inferno"
OPACITY = 0.62
HEAD_SIZE, BIG_SIZE, PANEL_SIZE = 0.95, 2.3, 1.35  # inches: a head's map, an image, a layer's centers
LEAST_WIDTH, TITLE_HEIGHT, STRIP_TITLE, LABEL_HEIGHT = 9.0, 0.75, 0.62, 0.1
MOST_CLASS_LAYERS = 2
# made for the color-blind, and its lightness rises evenly
GATE_COLORS = "cividis"
MOST_NUMBERED = 16  # heads whose gates are written into the map's cells
LEAST_REACH = 2  # patches
# panels of images have a frame all around
CHANGES: dict[str, Any] = {
    "font_size": 8,
    "axes_titlesize": 8,
    "axes_titlelocation": "center",
    "figure_titlesize": 12,
    "axes_spines_top": True,
    "axes_spines_right": True,
    "axes_linewidth": 0.6,
    "image_interpolation": "nearest",
}


def few_layers(model: ConViT, *, of_class_token: bool) -> list[int]:
    """The layers that a figure on one page shows: the first and the last gated one, and the model's last; from 1."""
    gated, last = model.config.local_up_to_layer, model.config.depth
    wanted = [gated + 1, last] if of_class_token else [1, gated, last]
    return sorted({number for number in wanted if 1 <= number <= last})


def draw_explanation(explanation: Explanation, *, with_layers: bool = True) -> Figure:
    """Draw one image's explanation; `convit.output.plots.png_of` writes it.

    `with_layers` adds a title, and the query's attention in each chosen layer and head, which a page lets choose.
    """
    layers = explanation.layers if with_layers else ()
    heads, tall = len(explanation.heads), explanation.pixels.shape[0] / explanation.pixels.shape[1]
    width = max(LEAST_WIDTH, HEAD_SIZE * heads + 1.3 if layers else 0)
    strips: list[tuple[float, Any]] = [(BIG_SIZE * min(tall, 2.0) + 0.55, _draw_pictures)]
    if explanation.gates is not None:
        gated = len(explanation.gates)
        across = max(1, int(width * 0.62 // PANEL_SIZE))
        height = max(PANEL_SIZE * -(-gated // across), 0.2 * gated + 0.6) + 0.75
        strips.append((height, lambda part, what: _draw_gated(part, what, across)))
    for view in layers:
        height = (HEAD_SIZE * tall + LABEL_HEIGHT) * len(view.maps) + STRIP_TITLE + 0.2
        strips.append((height, lambda part, what, view=view: _draw_layer(part, what, view, width)))
    with styled(**CHANGES):
        figure = Figure(
            figsize=(width, sum(height for height, _ in strips) + TITLE_HEIGHT * with_layers), layout="constrained"
        )
        if with_layers:
            figure.suptitle(title_of(explanation), parse_math=False, fontweight="bold", x=0.012, ha="left")
        parts = figure.subfigures(len(strips), 1, squeeze=False, height_ratios=[height for height, _ in strips])[:, 0]
        for part, (_, draw) in zip(parts, strips, strict=True):
            draw(part, explanation)
    return figure


def title_of(explanation: Explanation) -> str:
    """The image's name and the likeliest classes, in two lines."""
    found = ", ".join(f"{each.label} {percent(each.score)}" for each in explanation.predictions)
    name = explanation.name.rsplit("/", 1)[-1]
    return f"{name} through {explanation.model}\n{found or 'the model names no classes'}"


def query_name(explanation: Explanation) -> str:
    """What to call the query in a sentence."""
    if explanation.query is None:
        return "the class token"
    return f"the patch in row {explanation.query[0]}, column {explanation.query[1]}"


def layer_title(explanation: Explanation, view: LayerView) -> str:
    """What a layer's maps show."""
    query = query_name(explanation)
    if view.gate is not None:
        return f"Layer {view.number}, gated: what {query} reads, blended by each head's gate"
    told = "" if explanation.query is None else " (the class token left out)"
    return f"Layer {view.number}, ordinary attention: what {query} reads of the patches{told}"


def _draw_pictures(part: Any, explanation: Explanation) -> None:
    class_layers = list(explanation.class_attention)[-(1 if explanation.class_maps else MOST_CLASS_LAYERS) :]
    axes = part.subplots(1, 2 + len(class_layers) + bool(explanation.class_maps), squeeze=False)[0]
    height, width = explanation.pixels.shape[:2]
    _show(axes[0], explanation.pixels, f"As the model sees it:\n{height} x {width} pixels")
    _mark_query(axes[0], explanation)
    for panel, number in zip(axes[1:], class_layers, strict=False):
        mean = explanation.class_attention[number].mean(axis=0)
        title = f"What the class token reads\nin layer {number}, mean of heads{_peak(mean)}"
        _show(panel, overlay(explanation.pixels, mean), title)
    whose = "the class token" if class_layers else "the mean of the patches"
    title = f"What reaches {whose}\nby attention rollout{_peak(explanation.rollout)}"
    _show(axes[1 + len(class_layers)], overlay(explanation.pixels, explanation.rollout), title)
    if explanation.class_maps:
        label = textwrap.shorten(explanation.predictions[0].label, 24, placeholder="…") or "this class"
        title = f"Why {label}:\nclass rollout{_peak(explanation.class_maps[0])}"
        _show(axes[-1], overlay(explanation.pixels, explanation.class_maps[0]), title)
    colors = ScalarMappable(Normalize(0, 1), matplotlib.colormaps[COLORS])
    bar = part.colorbar(colors, ax=axes, fraction=0.02, pad=0.01, ticks=[0, 1], alpha=OPACITY)
    bar.ax.set_yticklabels(["nothing", "the panel's\npeak"])
    bar.outline.set_visible(False)


def _draw_gated(part: Any, explanation: Explanation, across: int) -> None:
    assert explanation.gates is not None
    assert explanation.centers is not None
    left, right = part.subfigures(1, 2, width_ratios=[1, 1.9])
    draw_gates(left.subplots(), explanation.gates)
    draw_centers(right, explanation.centers, explanation.gates, explanation.grid, across)


def _draw_layer(part: Any, explanation: Explanation, view: LayerView, width: float) -> None:
    part.suptitle(f"{layer_title(explanation, view)}; peaks below", x=0.012, ha="left", fontsize=9.5)
    # empty columns keep a few heads as small as many, and at the left
    columns = max(len(explanation.heads), int((width - 1.3) // HEAD_SIZE))
    grid = part.subplots(len(view.maps), columns, squeeze=False)
    for row, (kind, maps) in zip(grid, view.maps.items(), strict=True):
        for place, panel in enumerate(row):
            if place >= len(explanation.heads):
                panel.set_axis_off()
                continue
            _show(panel, overlay(explanation.pixels, maps[place]), "")
            panel.set_xlabel(f"{percent(maps[place].max())}", fontsize=6.5, labelpad=1.5)
            _mark_query(panel, explanation)
        row[0].set_ylabel("as it is" if view.gate is None else kind, fontsize=8)
    for place, head in enumerate(explanation.heads):
        gate = "" if view.gate is None else f"\ngate {view.gate[place]:.2f}"
        grid[0, place].set_title(f"head {head}{gate}", fontsize=7.5, pad=3)


def draw_gates(axes: Axes, gates: Float32[np.ndarray, "layers heads"]) -> None:
    """The gates as a layers x heads map with their values: 1 reads by place, 0 by content."""
    layers, heads = gates.shape
    axes.imshow(gates, cmap=GATE_COLORS, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(heads), [str(head + 1) for head in range(heads)])
    axes.set_yticks(range(layers), [str(layer + 1) for layer in range(layers)])
    axes.tick_params(length=0)
    axes.set(xlabel="head", ylabel="layer")
    axes.set_title("Gates: 1 reads by place, 0 by content", loc="left")
    if heads <= MOST_NUMBERED:
        size = 7 if heads <= MOST_NUMBERED // 2 + 1 else 5
        for (layer, head), gate in np.ndenumerate(gates):
            text = f"{gate:.2f}".removeprefix("0") if gate < 0.995 else "1"
            axes.text(head, layer, text, ha="center", va="center", fontsize=size, color=_ink(gate))


def draw_centers(
    part: Any,
    centers: Float32[np.ndarray, "layers heads 2"],
    gates: Float32[np.ndarray, "layers heads"],
    grid: tuple[int, int],
    across: int,
) -> None:
    """Where each head's position attention is centered, as an offset from the query on the patch grid, layer by layer.

    Heads without a center are named; those beyond the edge of a panel stand on it as triangles. Heads have the colors
    of `draw_gates`.

    Args:
        part: a figure or a part of one, in constrained layout.
        centers: (row, column) offsets in patches; NaN where there is none.
        gates: of the heads.
        grid: (rows, columns) of patches; no panel reaches farther.
        across: panels beside each other.
    """
    layers = len(centers)
    across = min(across, layers)
    known = np.abs(centers[np.isfinite(centers)])
    farthest = float(np.quantile(known, 0.98)) if known.size else 0.0
    reach = min(max(LEAST_REACH, int(np.ceil(farthest))), max(max(grid) - 1, LEAST_REACH))
    part.suptitle(
        "Learned offsets: where each head (its number) looks from the query (+), in patches",
        x=0.01,
        ha="left",
        fontsize=8,
    )
    panels = part.subplots(-(-layers // across), across, squeeze=False).flat
    for number, panel in enumerate(panels):
        if number >= layers:
            panel.set_axis_off()
        else:
            _draw_offsets(panel, number + 1, centers[number], gates[number], reach)


def _draw_offsets(axes: Axes, number: int, centers: np.ndarray, gates: np.ndarray, reach: int) -> None:
    edge = reach + 0.5
    lines = np.arange(-reach, reach + 2) - 0.5
    axes.set_xticks(lines, minor=True)
    axes.set_yticks(lines, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.tick_params(which="major", length=2, labelsize=6)
    ticks = [-reach, 0, reach]
    axes.set(xticks=ticks, yticks=ticks, xlim=(-edge, edge), ylim=(edge, -edge), aspect="equal")  # rows go down
    axes.plot(0, 0, "+", color="#D55E00", markersize=8, markeredgewidth=1.4, zorder=2)
    missing = [str(head + 1) for head, center in enumerate(centers) if np.isnan(center).any()]
    axes.set_title(f"layer {number}" + (f"\nno center: {', '.join(missing)}" if missing else ""), fontsize=7.5, pad=3)
    for head, (row, column) in enumerate(centers):
        if np.isnan(row) or np.isnan(column):
            continue
        beyond = max(abs(row), abs(column)) > edge
        place = np.clip(column, -reach, reach), np.clip(row, -reach, reach)
        color = matplotlib.colormaps[GATE_COLORS](float(gates[head]))
        marker = "^" if beyond else "o"
        axes.plot(*place, marker, color=color, markersize=8.5, markeredgecolor="0.2", markeredgewidth=0.5, zorder=3)
        axes.text(*place, str(head + 1), ha="center", va="center", fontsize=5.5, color=_ink(gates[head]), zorder=4)


def _ink(gate: float) -> str:
    return "black" if gate > 0.55 else "white"


def _show(axes: Axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, parse_math=False)


def _mark_query(axes: Axes, explanation: Explanation) -> None:
    """A white frame in a black one around the query's patch, which shows on any ground."""
    if explanation.query is None:
        return
    size = explanation.pixels.shape[0] / explanation.grid[0]
    corner = (explanation.query[1] * size - 0.5, explanation.query[0] * size - 0.5)
    for color, line in (("black", 2.4), ("white", 1.1)):
        axes.add_patch(Rectangle(corner, size, size, fill=False, edgecolor=color, linewidth=line))


def _peak(values: np.ndarray) -> str:
    return f"; peak {percent(values.max())}"


def gray(pixels: UInt8[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "height width 3"]:
    """An image without its colors, levels 0 to 1 (luma of ITU-R BT.601)."""
    luma = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32) / 255
    return np.repeat(luma[..., None], 3, axis=-1)


def colored(values: Float32[np.ndarray, "rows columns"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """A map in colors, from 0 to its own highest value; one that is 0 everywhere is black."""
    peak = float(values.max())
    shares = values / peak if peak > 0 else np.zeros_like(values)
    return (matplotlib.colormaps[COLORS](shares)[..., :3] * 255).round().astype(np.uint8)


def overlay(
    pixels: UInt8[np.ndarray, "height width 3"], values: Float32[np.ndarray, "rows columns"]
) -> Float32[np.ndarray, "height width 3"]:
    """A map, of numbers of at least 0, over the image that its patches cover, levels 0 to 1."""
    patch = pixels.shape[0] // values.shape[0]
    colors = colored(values).repeat(patch, axis=0).repeat(patch, axis=1).astype(np.float32) / 255
    return (1 - OPACITY) * gray(pixels) + OPACITY * colors
