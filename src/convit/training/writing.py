"""The file that a run ends with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convit.model import ConViT
from convit.optimization.precision import dtype_of
from convit.training.recipe import Recipe


def write_weights(
    path: str | Path, model: nn.Module, recipe: Recipe, classes: Sequence[str] | None, outcome: Mapping[str, Any]
) -> None:
    """Write a trained model with all that is needed to use it.

    Args:
        path: ends in .safetensors.
        model: the trained model; drop rates are left out of the file, they belong to the recipe. A model of another
            library is written as that library's state dict, for that library to load.
        recipe: how it was trained.
        classes: class names in index order, or None.
        outcome: the line of the run's log that belongs to these weights.

    Raises:
        OSError: the file cannot be written.
    """
    from convit.weights import save_weights

    dtype = dtype_of(recipe.run.export)
    if isinstance(model, ConViT):
        if recipe.schedule.final_img_size is not None:
            model.set_input_size(recipe.schedule.final_img_size)
        save_weights(path, model, describe(model, recipe, classes, outcome), dtype=dtype)
    else:
        _write_peer(Path(path), model, _common(recipe, classes, outcome), dtype)


def describe(
    model: ConViT, recipe: Recipe, classes: Sequence[str] | None, outcome: Mapping[str, Any]
) -> dict[str, Any]:
    """The metadata of a trained file, as JSON-able values."""
    config = model.config
    plain = config.replace(drop_rate=0.0, pos_drop_rate=0.0, proj_drop_rate=0.0, attn_drop_rate=0.0, drop_path_rate=0.0)
    return {
        "config": plain.to_dict(),
        "input_size": [config.in_chans, config.image_height, config.image_width],
        **_common(recipe, classes, outcome),
    }


def _common(recipe: Recipe, classes: Sequence[str] | None, outcome: Mapping[str, Any]) -> dict[str, Any]:
    start, preprocessing = recipe.model.weights, recipe.augment.preprocessing().to_dict()
    del preprocessing["input_size"]  # which is the model's
    how = "trained from scratch" if start is None else f"fine-tuned from {Path(start).name}"
    return {
        "architecture": recipe.model.architecture,
        **({"classes": list(classes)} if classes else {}),
        **preprocessing,
        "trained_on": recipe.data.name,
        "license": recipe.data.terms,
        "origin": f"{how} with `convit train`, recipe {recipe.name}",
        "recipe": recipe.model_dump(mode="json"),
        "outcome": dict(outcome),
    }


def _write_peer(path: Path, model: nn.Module, metadata: Mapping[str, Any], dtype: torch.dtype | None) -> None:
    import safetensors.torch

    from convit.output.files import replace_file

    tensors = {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in model.state_dict().items()
    }
    replace_file(path, safetensors.torch.save(tensors, metadata={"format": "pt", "recipe": json.dumps(metadata)}))
