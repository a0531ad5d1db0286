"""`export_model`: from a model to a folder whose results were compared with it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from convit.export.folder import write_config, write_labels
from convit.export.formats import LIMITS, ExportSettings
from convit.export.graph import Graph, Run, outputs_of
from convit.export.images import SMOOTH, batches_of, smooth_images
from convit.export.proof import Pixels, Proof, compare
from convit.model import ConViT
from convit.model.config import check_divisible
from convit.model.layers import PatchEmbedding
from convit.model.shortcuts import is_untouched
from convit.output.folders import whole_folder
from convit.transforms import TransformSettings, normalize_batch
from convit.weights.download import hash_file

BATCHES = (1, 3, 4)
FILES = ("config.json", "labels.txt", "README.md", "predict.py", "model.*")
"""Patterns of what an exported folder holds."""


def export_model(
    model: nn.Module,
    output: str | Path,
    settings: ExportSettings | None = None,
    *,
    overwrite: bool = False,
    source: Mapping[str, Any] | None = None,
) -> Proof:
    """Write a model as a folder for another runtime, after its results there were compared with PyTorch's.

    Args:
        model: a ConViT; it stays as it is.
        output: the folder; it appears whole, or not at all.
        settings: what is to be written; None for the defaults.
        overwrite: replaces a folder that was written so.
        source: what is told of the model's origin in `config.json`.

    Raises:
        TypeError: `model` is not a `ConViT`.
        ValueError: the model can't be exported so, or differs by more than the limit from PyTorch.
        FileExistsError: the folder exists, is not empty, and `overwrite` is false.
    """
    settings = settings or ExportSettings()
    if not isinstance(model, ConViT):
        raise TypeError(f"model is a {type(model).__name__}, but only a ConViT can be exported")
    if not is_untouched(model.patch_embed, PatchEmbedding):
        raise ValueError("a CNN is under the model's patch embedding, which no exported file can hold; export another")
    model = _sized(model, settings)
    outputs = outputs_of(model, settings.outputs)
    with whole_folder(Path(output), FILES, overwrite=overwrite) as folder:
        run = _write(model, outputs, settings, folder / settings.form.file)
        hashes = {path.name: hash_file(path) for path in sorted(folder.iterdir())}
        proof = _prove(model, run, settings)
        facts: dict[str, Any] = {
            "sha256": hashes,
            "source": source or {},
            "versions": {name: version(name) for name in ("convit", "torch", *settings.form.packages)},
            "difference": proof.to_dict(),
        }
        write_labels(folder, model)
        write_config(folder, model, settings, outputs, facts)
    return proof


def _sized(model: ConViT, settings: ExportSettings) -> ConViT:
    """A copy of the model in evaluation mode, for the size of images that is to be written."""
    model = copy.deepcopy(model).cpu().float().eval()
    height, width = settings.size or TransformSettings.from_model(model).input_size[1:]
    check_divisible(height, width, model.config.patch_size)
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (model.config.in_chans, height, width)}
    model.set_input_size((height, width))
    return model


def _write(model: ConViT, outputs: tuple[str, ...], settings: ExportSettings, path: Path) -> Run:
    from convit.export import onnx

    transform = TransformSettings.from_model(model)
    graph = Graph(model, outputs, takes_uint8=settings.input == "uint8")
    size = (transform.height, transform.width)
    onnx.write(graph, path, size, dynamic_size=settings.dynamic_size, opset=settings.opset or 23)
    return onnx.load(path)


def _prove(model: ConViT, run: Run, settings: ExportSettings) -> Proof:
    transform = TransformSettings.from_model(model)
    patch, (_, height, width) = model.config.patch_size, transform.input_size
    sizes = [(height, width)] * 3
    if settings.dynamic_size:
        sizes[1:] = (height + patch, width + 2 * patch), (max(patch, height - patch), width)
    shapes = [(batch, *size) for batch, size in zip(BATCHES, sizes, strict=True)]
    pixels = batches_of(smooth_images(sum(BATCHES), transform.input_size[0]), transform, shapes)

    def given(levels: Pixels) -> dict[str, np.ndarray]:
        return run(
            levels if settings.input == "uint8" else normalize_batch(torch.from_numpy(levels), transform).numpy()
        )

    limit = LIMITS[settings.precision]
    proof = compare(model, given, pixels, limit, SMOOTH)
    if not proof.largest <= limit or proof.top1_agreement not in (None, 1.0):
        raise ValueError(
            f"{settings.form.title} differs from PyTorch by {proof.largest:.1e} of the largest value, but must not by "
            f"more than {limit:.0e}; nothing was written"
        )
    return proof
