"""Panels of what the weights alone say: the gates as a map, and where each head's position attention is centered."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float32
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

# made for the color-blind, and its lightness rises evenly
GATE_COLORS = "cividis"
MOST_NUMBERED = 16  # heads whose gates are written into the map's cells
LEAST_REACH = 2  # patches


def draw_gates(axes: Axes, gates: Float32[np.ndarray, "layers heads"]) -> None:
    """The gates as a layers x heads map with their values: 1 reads by place, 0 by content."""
    layers, heads = gates.shape
    axes.imshow(gates, cmap=GATE_COLORS, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(heads), [str(head + 1) for head in range(heads)])
    axes.set_yticks(range(layers), [str(layer + 1) for layer in range(layers)])
    axes.tick_params(length=0)
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
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
            _draw_layer(panel, number + 1, centers[number], gates[number], reach)


def _draw_layer(axes: Axes, number: int, centers: np.ndarray, gates: np.ndarray, reach: int) -> None:
    edge = reach + 0.5
    lines = np.arange(-reach, reach + 2) - 0.5
    axes.xaxis.set_minor_locator(FixedLocator(lines.tolist()))
    axes.yaxis.set_minor_locator(FixedLocator(lines.tolist()))
    axes.grid(which="minor", color="0.85", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.tick_params(which="major", length=2, labelsize=6)
    axes.set_xticks([-reach, 0, reach])
    axes.set_yticks([-reach, 0, reach])
    axes.set(xlim=(-edge, edge), ylim=(edge, -edge), aspect="equal")  # rows go down
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
