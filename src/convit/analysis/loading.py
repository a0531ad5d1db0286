"""Models to be looked into: the plain form, whose attention can be taken apart, never an optimized one."""

from __future__ import annotations

from pathlib import Path

from convit.inference.predicting import load_by_name
from convit.model import ConViT
from convit.optimization.precision import default_precision, dtype_of, pick_device


def load_plain(
    model: str | None = None, weights: str | Path | None = None, *, device: str = "auto", precision: str = "auto"
) -> ConViT:
    """Load a model as the paper writes it, in evaluation mode, on its device.

    Args:
        model: a variant or weight set; None for the model that `weights` describes, else the default.
        weights: a local file or folder instead of published weights.
        device: "auto", "cpu", "cuda", "mps" ...
        precision: "auto", "fp32", "bf16" or "fp16".

    Raises:
        ValueError: the name, the device or the precision is unknown, or the model is no ConViT.
        FileNotFoundError, OSError: the weights cannot be found or fetched.
    """
    place = pick_device(device)
    dtype = dtype_of(default_precision(place) if precision == "auto" else precision)
    loaded = load_by_name(model, weights)
    if not isinstance(loaded, ConViT):
        raise ValueError(f"the {type(loaded).__name__} is no ConViT, so it cannot be looked into; take a ConViT")
    return loaded.to(device=place, dtype=dtype).eval()
