"""The weights that fine-tuning starts from, described without fetching them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from convit.model import VARIANTS, ConViTConfig
from convit.optimization.precision import pick_device
from convit.transforms import TransformSettings
from convit.weights import WEIGHT_SETS, find_weight_set, load_model

ON_GPU, ON_CPU = "convit_small.fb_in1k", "convit_tiny.fb_in1k"


@dataclass(frozen=True)
class BaseModel:
    """A trained model to begin with.

    Attributes:
        architecture: the recipe's `model.architecture`.
        weights: its `model.weights`.
        config: the model's configuration, at its own image size.
        preprocessing: how its images are prepared.
        reason: why this one.
    """

    architecture: str
    weights: str
    config: ConViTConfig
    preprocessing: TransformSettings
    reason: str


def find_base_model(model: str | None, device: torch.device | None = None) -> BaseModel:
    """Describe the weights of a name or a file.

    Args:
        model: a weight set, an architecture for its default weights, or a file that `convit train` or
            `convit finetune` wrote. None: "convit_small.fb_in1k" on a GPU, "convit_tiny.fb_in1k" on a CPU, where a
            step of the small model takes about four times as long.
        device: where it will be trained; None for the best there is.

    Raises:
        FileNotFoundError: the name looks like a file, and there is none.
        ValueError: there are no such weights (the message names the closest), or the file is damaged or holds no
            ConViT.
    """
    device = device or pick_device("auto")
    if model is not None and _is_file(model):
        return _from_file(Path(model))
    reason = "as asked"
    if model is None:
        model = ON_CPU if device.type == "cpu" else ON_GPU
        reason = (
            "without a GPU, the smallest of the published ones: the others need four times as long and more"
            if device.type == "cpu"
            else "the best of the published ones for its cost"
        )
    found = find_weight_set(model)
    channels, height, width = found.input_size
    config = VARIANTS[found.architecture].config.replace(
        num_classes=found.num_classes, in_chans=channels, img_size=(height, width)
    )
    return BaseModel(found.architecture, found.name, config, found.preprocessing, reason)


def _is_file(model: str) -> bool:
    if model in WEIGHT_SETS or model in VARIANTS:
        return False
    path = Path(model)
    if path.suffix in (".safetensors", ".pth", ".pt", ".bin") and not path.exists():
        raise FileNotFoundError(f"there is no weight file {path}; correct the path, or name weights of `convit models`")
    return path.exists()


def _from_file(path: Path) -> BaseModel:
    model = load_model(path)
    architecture = str((model.pretrained_cfg or {}).get("architecture", ""))
    if architecture not in VARIANTS:
        raise ValueError(
            f"{path} does not say which variant it holds; train it with `convit train` and a recipe that names "
            f"model.architecture"
        )
    return BaseModel(architecture, str(path), model.config, TransformSettings.from_model(model), "as asked")
