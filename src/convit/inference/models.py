"""What a model's name stands for: weights that PyTorch runs, or an exported folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from convit.inference.exported import ExportedModel, exported_folder

if TYPE_CHECKING:
    from torch import nn

    from convit.inference.loaded import LoadedModel
    from convit.inference.options import RunOptions


Runner: TypeAlias = "LoadedModel | ExportedModel"
"""What computes a model's outputs of pixels; both have the same attributes and methods."""


def find_exported(name: str) -> Path | None:
    """The exported folder that a model's name refers to, by the rules of `local_weights`; None for other names."""
    from convit.weights.weight_sets import local_weights

    return None if (path := local_weights(name)) is None else exported_folder(str(path))


def check_model(name: str | None, weights: Path | None) -> None:
    """Refuse what names neither a model nor an exported folder, nor weights, before anything heavy is imported.

    Raises:
        ValueError: there is no such model, or there are no such weights.
        FileNotFoundError: there is no such weight file.
    """
    from convit.weights.weight_sets import check_model_name

    if weights is not None:
        from convit.weights.files import weights_file

        weights_file(weights)
    if name is not None and find_exported(name) is None:
        check_model_name(name)


def open_model(
    model: str | nn.Module | ExportedModel | None,
    weights: str | Path | None,
    options: RunOptions,
    *,
    num_classes: int | None = None,
) -> Runner:
    """Make ready what a `Classifier`, an `Embedder` or an evaluation was given; arguments and errors are theirs."""
    if isinstance(model, ExportedModel):
        return model
    if isinstance(model, str) and weights is None and (folder := find_exported(model)) is not None:
        return ExportedModel(folder, options)
    from convit.inference.loaded import LoadedModel

    return LoadedModel(model, weights, options, num_classes=num_classes)
