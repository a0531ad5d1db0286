"""`export_model`: from a model to a folder whose results were compared with it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convit.export.folder import FILES, describe_export, write_config, write_folder
from convit.export.formats import ExportSettings
from convit.export.graph import outputs_of
from convit.export.images import ProofImages, smooth_images
from convit.export.proof import Proof, prove
from convit.export.writing import write
from convit.images import ImageError
from convit.model import ConViT
from convit.model.config import check_divisible
from convit.model.layers import PatchEmbedding
from convit.model.shortcuts import is_untouched
from convit.output.files import hash_file
from convit.output.folders import whole_folder
from convit.transforms import TransformSettings


@torch.no_grad()
def export_model(
    model: nn.Module,
    output: str | Path,
    settings: ExportSettings | None = None,
    images: ProofImages | None = None,
    *,
    overwrite: bool = False,
    source: Mapping[str, Any] | None = None,
) -> Proof:
    """Write a model as a folder for another runtime, after its results there were compared with PyTorch's.

    Args:
        model: a ConViT; it stays as it is.
        output: the folder; it appears whole, or not at all.
        settings: what is to be written; None for the defaults.
        images: what the results are compared on, and what gives the ranges of int8; None for smooth color fields.
        overwrite: replaces a folder that was written so.
        source: what is told of the model's origin in `config.json`.

    Returns:
        What was measured.

    Raises:
        TypeError: `model` is not a `ConViT`.
        ValueError: the model can't be exported so, or differs from PyTorch by more than the limit.
        FileExistsError: the folder exists, is not empty, and `overwrite` is false.
    """
    settings = settings or ExportSettings()
    if not isinstance(model, ConViT):
        raise TypeError(f"model is a {type(model).__name__}, but only a ConViT can be exported")
    if not is_untouched(model.patch_embed, PatchEmbedding):
        raise ValueError("a CNN is under the model's patch embedding, which no exported file can hold; export another")
    model = _sized(model, settings)
    outputs = outputs_of(model, settings.outputs)
    images = images or smooth_images()
    if settings.precision == "int8" and not images.are_given:
        raise ValueError("precision is int8, whose ranges come from images: give --data, a folder of some of yours")
    with whole_folder(Path(output), FILES, overwrite=overwrite) as folder:
        try:
            write(model, outputs, settings, images, folder / settings.form.file)
        except (OSError, MemoryError, ImageError):  # none of the format's
            raise
        except Exception as error:  # each converter has its own kinds
            reason = " ".join(str(error).split())[:160]
            raise ValueError(
                f"{settings.form.title} cannot hold this model ({type(error).__name__}: {reason}); "
                "take another format (convit export --list); --debug shows more"
            ) from error
        facts = describe_export(model, settings, outputs)
        facts["sha256"] = {path.name: hash_file(path) for path in sorted(folder.iterdir())}
        facts["source"] = dict(source or {})
        facts["versions"] = {name: version(name) for name in ("convit", "torch", *settings.form.packages)}
        write_config(folder, model, facts)
        proof = prove(model, settings, folder, images)
        facts["difference"] = asdict(proof)
        write_folder(folder, model, facts, proof)
    return proof


def _sized(model: ConViT, settings: ExportSettings) -> ConViT:
    """A copy of the model in evaluation mode, for the size of images that is to be written."""
    model = copy.deepcopy(model).cpu().float().eval()
    height, width = settings.size or TransformSettings.from_model(model).input_size[1:]
    check_divisible(height, width, model.config.patch_size)
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (model.config.in_chans, height, width)}
    TransformSettings.from_model(model)  # refuses sizes that nothing here reads
    if not settings.dynamic_size:  # which would resample its positions twice
        model.set_input_size((height, width))
    return model
