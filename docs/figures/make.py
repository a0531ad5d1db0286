"""Draws docs/figures/heads.png, the figure at the top of README.md: python docs/figures/make.py."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from torch import Tensor

import convit
from convit.analysis import gates, locality_centers

MODEL = "convit_nano_patch4_32.cifar10"
TARGET = Path(__file__).with_name("heads.png")
COLORS = matplotlib.colormaps["cividis"]
REACH = 2.5  # patches


def draw_layer(axes: Axes, title: str, centers: Tensor, gate: Tensor) -> None:
    """One layer: where each head's position attention is centered, colored by its gate."""
    axes.set(xlim=(-REACH, REACH), ylim=(REACH, -REACH), aspect="equal", xticks=[], yticks=[])
    for line in range(-2, 3):
        axes.axhline(line - 0.5, color="0.88", linewidth=0.8, zorder=0)
        axes.axvline(line - 0.5, color="0.88", linewidth=0.8, zorder=0)
    for (row, column), value in zip(centers.tolist(), gate.tolist(), strict=True):
        axes.plot(column, row, "o", markersize=13, color=COLORS(value), markeredgecolor="0.25", markeredgewidth=0.7)
    axes.plot(0, 0, "+", markersize=9, markeredgewidth=1.6, color="#D55E00")
    axes.set_title(title, fontsize=10)


def main() -> None:
    """Draw a fresh model's heads beside trained ones."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.manual_seed(0)
    trained = convit.create_model(MODEL, pretrained=True)
    fresh = convit.create_model(MODEL, pretrained=False)
    layers = [0, 2, 4]
    panels = [("before training: a 3 x 3 convolution", locality_centers(fresh)[0], gates(fresh)[0])]
    panels += [(f"after training: layer {i + 1}", locality_centers(trained)[i], gates(trained)[i]) for i in layers]
    figure, axes = plt.subplots(1, len(panels), figsize=(12, 3.3), layout="constrained")
    for place, panel in zip(axes, panels, strict=True):
        draw_layer(place, *panel)
    bar = figure.colorbar(ScalarMappable(cmap=COLORS), ax=axes, shrink=0.85, pad=0.01)
    bar.set_label("gate: 0 reads by content,\n1 reads by position", fontsize=9)
    figure.savefig(TARGET, dpi=110, facecolor="white")


if __name__ == "__main__":
    main()
