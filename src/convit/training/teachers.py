"""Distillation: what a student learns from a teacher beside the labels."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from convit.model import ConViT
from convit.training.models import class_count
from convit.training.peers import create_peer, is_peer, normalization
from convit.training.recipe import AugmentRecipe, DistillationRecipe
from convit.weights import WEIGHT_SETS, create_model, load_model


class Teacher:
    """A frozen model that judges the student's own images.

    No module, so that its weights come neither into the student's checkpoints nor to its optimizer.

    Args:
        recipe: which teacher, and how it is followed.
        augment: how the student's images are normalized; the teacher sees them as it knows them.
        classes: the student's.

    Raises:
        ValueError: the teacher is unknown or knows another number of classes.
    """

    def __init__(self, recipe: DistillationRecipe, augment: AugmentRecipe, classes: int) -> None:
        self.recipe = recipe
        self.model, mean, std = _open_teacher(recipe.teacher)
        if class_count(self.model) != classes:
            raise ValueError(
                f"distillation.teacher {recipe.teacher} knows {class_count(self.model)} classes, the student "
                f"{classes}; choose a teacher of the same classes"
            )
        self.model.eval().requires_grad_(False)
        own_mean, own_std = torch.tensor(augment.mean), torch.tensor(augment.std)
        self.scale = (own_std / torch.tensor(std))[:, None, None]
        self.shift = ((own_mean - torch.tensor(mean)) / torch.tensor(std))[:, None, None]
        self.size = _fixed_size(self.model)

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self.model.to(device)
        self.scale, self.shift = self.scale.to(device), self.shift.to(device)

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes"]:
        """The teacher's logits for images that are normalized for the student."""
        images = images * self.scale + self.shift
        if self.size is not None and tuple(images.shape[-2:]) != self.size:
            images = F.interpolate(images, size=self.size, mode="bicubic", antialias=True)
        return self.model(images).float()

    def loss(
        self, logits: Float[Tensor, "batch classes"], images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, ""]:
        """How far the student is from the teacher, meaned over images.

        Soft: KL divergence at a temperature, times its square (Hinton et al. 2015, arXiv 1503.02531). Hard:
        cross-entropy with the teacher's best class (DeiT, arXiv 2012.12877, Eq. 3; there through a token of its own).
        """
        taught = self(images)
        if self.recipe.kind == "hard":
            return F.cross_entropy(logits, taught.argmax(dim=1))
        heat = self.recipe.temperature
        ours, theirs = F.log_softmax(logits / heat, dim=1), F.log_softmax(taught / heat, dim=1)
        return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * heat**2


def _open_teacher(name: str) -> tuple[nn.Module, tuple[float, ...], tuple[float, ...]]:
    if is_peer(name):
        model = create_peer(name, pretrained=True)
        return model, *normalization(name, model)
    if name in WEIGHT_SETS:
        ours = create_model(name, pretrained=True)
    elif Path(name).exists():
        ours = load_model(name)
    else:
        raise ValueError(
            f"distillation.teacher is {name!r}, which is neither a weight set nor a file, nor timm:NAME or "
            f"torchvision:NAME"
        )
    return ours, tuple(ours.pretrained_cfg["mean"]), tuple(ours.pretrained_cfg["std"])


def _fixed_size(model: nn.Module) -> tuple[int, int] | None:
    """(height, width) that a model insists on, pixels; None where it takes what comes."""
    if isinstance(model, ConViT):
        return None
    size = getattr(getattr(model, "patch_embed", None), "img_size", None) or getattr(model, "image_size", None)
    return (size, size) if isinstance(size, int) else size
