"""What a model's name stands for: an exported folder, and nothing else."""

from pathlib import Path
from typing import Any

from convit.inference.exported import ExportedModel
from convit.inference.options import RunOptions


def check_model(name: str | None, weights: Path | None) -> None:
    """Refuse what is no exported folder; raises as `open_model`."""
    _folder(name, weights)


def open_model(
    model: Any, weights: str | Path | None, options: RunOptions, *, num_classes: int | None = None
) -> ExportedModel:
    """Make ready what a `Classifier` or an `Embedder` was given: a folder, or an `ExportedModel`.

    Raises:
        ValueError: no exported folder is named.
        And what `ExportedModel` raises.
    """
    if isinstance(model, ExportedModel):
        return model
    return ExportedModel(_folder(model, weights), options)


def _folder(model: Any, weights: str | Path | None) -> Path:
    if not isinstance(model, str | Path) or weights is not None:
        raise ValueError(
            "no exported folder is named; give one as the model (--model FOLDER), written by `convit export` on a "
            "machine with convit"
        )
    return Path(model)
