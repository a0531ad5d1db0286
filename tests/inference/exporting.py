"""Exported folders for tests of those who read them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convit.model import ConViT
from convit.optimization import optimize
from convit.transforms import TransformSettings


class _Whole(nn.Module):
    """uint8 pixels in, logits, embedding and tokens out."""

    def __init__(self, model: ConViT) -> None:
        super().__init__()
        self.model = optimize(model, "fp32", compile=True).model
        settings = TransformSettings.from_model(model)
        self.register_buffer("mean", torch.tensor(settings.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(settings.std).view(3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scaled = (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        tokens = self.model.forward_features(scaled)
        pooled = self.model.forward_head(tokens, pre_logits=True)
        return self.model.head(pooled), pooled, tokens


def describe(model: ConViT, folder: Path, file: str, **changes: Any) -> None:
    """Write `config.json` for a model file that lies in the folder."""
    settings = TransformSettings.from_model(model)
    export = {
        "format": "onnx",
        "file": file,
        "sha256": {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in folder.glob("model.*")},
        "precision": "fp32",
        "input": {
            "name": "images",
            "dtype": "uint8",
            "layout": "NHWC",
            "batch": None,
            "height": settings.height,
            "width": settings.width,
        },
        "outputs": ["logits", "embedding", "tokens"],
        "patch_size": model.config.patch_size,
        "transform": settings.to_dict(),
        "temperature": 2.0,
        "source": {"name": "a", "sha256": "b" * 64, "run": None},
    }
    config = {
        "architecture": model.pretrained_cfg["architecture"],
        "num_classes": model.num_classes,
        "label_names": list(model.pretrained_cfg["label_names"]),
        "export": export | changes,
    }
    (folder / "config.json").write_text(json.dumps(config))


def export_onnx(model: ConViT, folder: Path, **changes: Any) -> Path:
    """An exported folder with an ONNX file of all outputs for any batch of images of the model's size."""
    folder.mkdir(parents=True)
    size = model.config.image_height, model.config.image_width
    torch.onnx.export(
        _Whole(model).eval(),
        (torch.zeros(2, *size, 3, dtype=torch.uint8),),
        folder / "model.onnx",
        dynamo=True,
        opset_version=23,
        input_names=["images"],
        output_names=["logits", "embedding", "tokens"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        external_data=False,
        verbose=False,
    )
    describe(model, folder, "model.onnx", **changes)
    return folder
