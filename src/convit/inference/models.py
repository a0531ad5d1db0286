"""What a model's name stands for, weights that PyTorch runs or an exported folder, and what either must give."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from convit.inference.exported import ExportedModel, exported_folder

if TYPE_CHECKING:
    from jaxtyping import Float32
    from torch import nn

    from convit.inference.options import RunOptions
    from convit.transforms.settings import TransformSettings


class Runner(Protocol):
    """What computes a model's outputs of pixels.

    Attributes:
        name: the model's name, as it can be shown.
        settings: the preprocessing, with the size of the input.
        batch_size: images at a time, as asked for or as suits the device.
        is_steady: whether a batch is computed in one way, whatever came before it; otherwise a CPU may lay out weights
            for the number of images that keeps coming, which moves the last bits.
    """

    name: str
    settings: TransformSettings
    batch_size: int
    is_steady: bool

    @property
    def model(self) -> Any:
        """The module, or whatever else has its `pretrained_cfg` and `num_classes`."""

    @property
    def device(self) -> Any:
        """Where it runs."""

    @property
    def precision(self) -> str:
        """Its numeric precision: "fp32", "bf16", "fp16", "fp8" or "int8"."""
        ...

    @property
    def at_once(self) -> int:
        """How many batches of a long run to compute at once, in the threads of `pool`; 1 if that would not help."""
        ...

    def pool(self) -> AbstractContextManager[Executor | None]:
        """Threads that compute a batch each, on their share of the cores."""
        ...

    def check(self, kind: str) -> None:
        """Refuse "logits" or a kind of embedding that the model cannot give: a `ValueError` or `TypeError`."""

    def compute(
        self, pixels: Sequence[Any], wanted: str, *, mirrored: bool = False
    ) -> Float32[np.ndarray, "batch ..."]:
        """Compute one output.

        Args:
            pixels: cropped images, each (height, width, channels) of uint8 pixel values.
            wanted: what `check` lets pass.
            mirrored: whether left and right are exchanged first.
        """
        ...


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
