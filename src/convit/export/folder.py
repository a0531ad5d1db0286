"""The exported folder: what stands in it beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convit.export.formats import ExportSettings
from convit.inference.classifier import read_labels, read_temperature
from convit.model import ConViT
from convit.output.text import json_text
from convit.transforms import TransformSettings
from convit.weights.card import describe
from convit.weights.timm_config import timm_config


def write_config(
    folder: Path, model: ConViT, settings: ExportSettings, outputs: tuple[str, ...], facts: Mapping[str, Any]
) -> None:
    """Write `config.json` for the files of the model that are in `folder`: timm's form, and what was exported."""
    form, config = settings.form, model.config
    transform = TransformSettings.from_model(model)
    sizes = (None, None) if settings.dynamic_size else (transform.height, transform.width)
    takes_uint8 = settings.input == "uint8"
    known = {
        "format": form.name,
        "file": form.file,
        "precision": settings.precision,
        "input": {
            "name": "images",
            "dtype": "uint8" if takes_uint8 else "float32",
            "layout": "NHWC" if takes_uint8 else "NCHW",
            "batch": None,
            "height": sizes[0],
            "width": sizes[1],
        },
        "outputs": list(outputs),
        "patch_size": config.patch_size,
        "transform": transform.to_dict(),
        "temperature": read_temperature(model) if model.num_classes else None,
        **facts,
    }
    (folder / "config.json").write_text(json_text({**timm_config(describe(model)), "export": known}), encoding="utf-8")


def write_labels(folder: Path, model: ConViT) -> None:
    """Write `labels.txt`, one class name a line."""
    labels = read_labels(model) if model.num_classes else ()
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
