"""Attention laid over a picture: the picture in gray, dark where little is read, towards yellow where much is."""

from __future__ import annotations

import matplotlib
import numpy as np
from jaxtyping import Float32, UInt8

# its lightness rises evenly from black to light yellow: the order survives gray print and every kind of color vision
COLORS = "inferno"
OPACITY = 0.62


def gray(pixels: UInt8[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "height width 3"]:
    """A picture without its colors, levels 0 to 1 (luma of ITU-R BT.601)."""
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
    """A map over the picture that its patches cover, levels 0 to 1.

    Args:
        pixels: the picture, a whole number of pixels per patch.
        values: one number of at least 0 per patch.
    """
    patch = pixels.shape[0] // values.shape[0]
    colors = colored(values).repeat(patch, axis=0).repeat(patch, axis=1).astype(np.float32) / 255
    return (1 - OPACITY) * gray(pixels) + OPACITY * colors
