"""The file that a run ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from convit.model import ConViT
from convit.training.recipe import Recipe

DTYPES = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}


def write_weights(
    path: str | Path, model: ConViT, recipe: Recipe, classes: Sequence[str] | None, outcome: Mapping[str, Any]
) -> None:
    """Write a trained model with all that is needed to use it.

    Args:
        path: ends in .safetensors.
        model: the trained model; drop rates are left out of the file, they belong to the recipe.
        recipe: how it was trained.
        classes: class names in index order, or None.
        outcome: the last line of the run's log.

    Raises:
        OSError: the file cannot be written.
    """
    from convit.weights import save_weights

    save_weights(path, model, describe(model, recipe, classes, outcome), dtype=DTYPES[recipe.run.export])


def describe(
    model: ConViT, recipe: Recipe, classes: Sequence[str] | None, outcome: Mapping[str, Any]
) -> dict[str, Any]:
    """The metadata of a trained file, as JSON-able values."""
    config, augment = model.config, recipe.augment
    plain = config.replace(drop_rate=0.0, pos_drop_rate=0.0, proj_drop_rate=0.0, attn_drop_rate=0.0, drop_path_rate=0.0)
    return {
        "architecture": recipe.model.architecture,
        "config": plain.to_dict(),
        **({"classes": list(classes)} if classes else {}),
        "input_size": [config.in_chans, config.image_height, config.image_width],
        "mean": list(augment.mean),
        "std": list(augment.std),
        "interpolation": augment.interpolation,
        "crop_pct": augment.crop_pct,
        "crop_mode": "center",
        "trained_on": recipe.data.name,
        "licence": recipe.data.terms,
        "origin": f"trained from scratch with `convit train`, recipe {recipe.name}",
        "recipe": recipe.model_dump(mode="json"),
        "outcome": dict(outcome),
    }
