"""The model that a recipe trains (made, started from weights where it says so, partly frozen), and its teacher."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from lightning.pytorch import seed_everything
from torch import Tensor, nn

from convit.model import VARIANTS, ConViT
from convit.model.attention import GatedPositionalSelfAttention
from convit.training.peers import create_peer, is_peer
from convit.training.recipe import AugmentRecipe, DistillationRecipe, ModelRecipe, Recipe
from convit.transforms import TransformSettings
from convit.weights import WEIGHT_SETS, create_model, load_model
from convit.weights.weight_sets import closest, local_weights

HEADS = ("head.", "fc.", "classifier.")  # ours and timm's ViTs; other names that libraries give the last layer


def build_model(recipe: Recipe) -> nn.Module:
    """The model of a recipe before training, seeded by the recipe's seed.

    Raises:
        FileNotFoundError: there is no such weight file.
        ValueError: the architecture or the weights are unknown or do not fit, an option is out of range, nothing is
            left to train, or the model cannot compute activations again where the recipe asks for it.
    """
    wanted = recipe.model
    seed_everything(recipe.seed, verbose=False)
    if is_peer(wanted.architecture):
        if wanted.initial_gate is not None or not wanted.convolutional_init:
            raise ValueError(
                f"model.initial_gate and model.convolutional_init belong to ConViT, but the model is "
                f"{wanted.architecture}; leave them out"
            )
        if wanted.weights not in (None, "default"):
            raise ValueError(
                f"model.weights is {wanted.weights!r}, but {wanted.architecture} starts from random weights or, with "
                "'default', from its library's own"
            )
        model = create_peer(wanted.architecture, pretrained=wanted.weights == "default", **wanted.options)
    else:
        model = _build_convit(wanted)
        if (pool := model.config.global_pool) not in ("token", "avg"):
            raise ValueError(
                f"the model's global_pool is {pool!r}, but a classifier has 'token' or 'avg'; set "
                "model.options.global_pool=token"
            )
        _change_start(model, wanted)
    freeze(model, wanted.freeze)
    if recipe.run.activation_checkpointing:
        _checkpoint_activations(model, wanted.architecture)
    return model


def _checkpoint_activations(model: Any, architecture: str) -> None:
    try:
        model.set_grad_checkpointing()
    except (AttributeError, AssertionError) as error:  # not all of timm's have such a method, and some refuse
        raise ValueError(
            f"run.activation_checkpointing is true, but {architecture} does not support it; leave it out"
        ) from error


def freeze(model: nn.Module, patterns: list[str]) -> None:
    """Take parameters out of training: by beginnings of names, endings after a star, or "backbone", all but the head.

    Raises:
        ValueError: a pattern means no parameter, or none is left to train.
    """
    named = dict(model.named_parameters())
    for pattern in patterns:
        chosen = [parameter for name, parameter in named.items() if _matches(name, pattern)]
        roots = dict.fromkeys(name.split(".")[0] for name in named)
        if not chosen:
            raise ValueError(
                f"model.freeze names {pattern!r}, but no parameter begins so; there are {', '.join(roots)}"
            )
        for parameter in chosen:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in named.values()):
        raise ValueError(f"model.freeze is {patterns!r}, which leaves nothing to train; freeze less")


@torch.no_grad()
def set_head(model: nn.Module, weight: Float[Tensor, "classes dim"], bias: Float[Tensor, " classes"]) -> None:
    """Let the last layer of a ConViT begin with these parameters."""
    assert isinstance(model, ConViT)
    head = cast(nn.Linear, model.head)
    head.weight.copy_(weight)
    head.bias.copy_(bias)


def image_size(model: nn.Module, recipe: Recipe) -> tuple[int, int]:
    """(height, width) in pixels of the images that a model is made for.

    Raises:
        ValueError: a ConViT takes other images than RGB ones.
    """
    if isinstance(model, ConViT):
        if model.config.in_chans != 3:
            raise ValueError(
                f"model.options.in_chans is {model.config.in_chans}, but images are read as RGB; leave it out: weights "
                "of other channels are adapted"
            )
        return model.config.image_height, model.config.image_width
    option = recipe.model.options.get("img_size")
    size = option if option is not None else getattr(model, "default_cfg", {}).get("input_size", (3, 224, 224))[-2:]
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def class_count(model: nn.Module) -> int:
    """Width of a model's last layer.

    Raises:
        ValueError: the model does not say.
    """
    # torchvision's ResNets and others have no such number, but end with the layer that gives the classes
    linear = [layer.out_features for layer in model.modules() if isinstance(layer, nn.Linear)]
    count = getattr(model, "num_classes", linear[-1] if linear else None)
    if not count:
        raise ValueError(
            f"a {type(model).__name__} does not say how many classes it knows; give model.options.num_classes"
        )
    return int(count)


def _build_convit(wanted: ModelRecipe) -> ConViT:
    name = wanted.architecture
    if name not in VARIANTS:
        raise ValueError(f"model.architecture is {name!r}, which is not a variant; {closest(name, VARIANTS)}")
    try:
        if wanted.weights is None:
            return ConViT(VARIANTS[name].config.replace(**wanted.options))
        if wanted.weights not in WEIGHT_SETS:
            options: dict[str, Any] = {"in_chans": 3, **wanted.options}  # images are read as RGB
            return create_model(name, checkpoint_path=Path(wanted.weights), **options)
        if wanted.weights.partition(".")[0] != name:
            raise ValueError(f"model.weights is {wanted.weights}, but model.architecture is {name}; make them agree")
        return create_model(wanted.weights, pretrained=True, **wanted.options)
    except TypeError as error:
        raise ValueError(f"model.options: {error}") from error


@torch.no_grad()
def _change_start(model: ConViT, wanted: ModelRecipe) -> None:
    """The starts that the paper's Table 3 compares: without the convolution, and with another gate."""
    for module in model.modules():
        if isinstance(module, GatedPositionalSelfAttention):
            if not wanted.convolutional_init:
                for layer in (module.v, module.pos_proj):
                    nn.init.trunc_normal_(layer.weight, std=0.02)
            if wanted.initial_gate is not None:
                module.gating_param.fill_(math.log(wanted.initial_gate / (1 - wanted.initial_gate)))


def _matches(name: str, pattern: str) -> bool:
    if pattern == "backbone":
        return not name.startswith(HEADS)
    return name.endswith(pattern[1:]) if pattern.startswith("*") else name.startswith(pattern)


class Teacher:
    """A frozen model that judges the student's own images, normalized anew as it knows them.

    No module, so that its weights come neither into the student's checkpoints nor to its optimizer.

    Raises:
        ValueError: the teacher is unknown or knows another number of classes.
    """

    def __init__(self, recipe: DistillationRecipe, augment: AugmentRecipe, classes: int) -> None:
        self.recipe = recipe
        self.model = _open_teacher(recipe.teacher)
        if class_count(self.model) != classes:
            raise ValueError(
                f"distillation.teacher {recipe.teacher} knows {class_count(self.model)} classes, the student "
                f"{classes}; choose a teacher of the same classes"
            )
        self.model.eval().requires_grad_(False)
        # of torchvision's, which do not say, the defaults; some were measured with a crop that we do not have
        known = TransformSettings.from_model(self.model, {"crop_pct": 1.0})
        mean, std, own_mean, own_std = map(torch.tensor, (known.mean, known.std, augment.mean, augment.std))
        self.scale, self.shift = (own_std / std)[:, None, None], ((own_mean - mean) / std)[:, None, None]
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
        taught, heat = self(images), self.recipe.temperature
        if self.recipe.kind == "hard":
            return F.cross_entropy(logits, taught.argmax(dim=1))
        ours, theirs = F.log_softmax(logits / heat, dim=1), F.log_softmax(taught / heat, dim=1)
        return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * heat**2


def _open_teacher(name: str) -> nn.Module:
    if is_peer(name):
        model = create_peer(name, pretrained=True)
        if name.startswith("timm:") and not getattr(model, "pretrained_cfg", None):
            raise ValueError(f"{name} does not say how its images are normalized; choose another teacher")
        return model
    if name in WEIGHT_SETS:
        return create_model(name, pretrained=True)
    if (path := local_weights(name)) is not None:
        return load_model(path)
    raise ValueError(
        f"distillation.teacher is {name!r}, which is neither a weight set nor a file, nor timm:NAME or torchvision:NAME"
    )


def _fixed_size(model: nn.Module) -> tuple[int, int] | None:
    """(height, width) that a model insists on, pixels; None if it takes what comes."""
    if isinstance(model, ConViT):
        return None
    size = getattr(getattr(model, "patch_embed", None), "img_size", None) or getattr(model, "image_size", None)
    return (size, size) if isinstance(size, int) else size
