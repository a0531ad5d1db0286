"""The weights to begin with and the settings of a fine-tuning run, each with its reason in plain words.

The rules of thumb are this project's, in the range of published fine-tuning recipes for vision transformers (AdamW,
layer-wise decay 0.75, label smoothing, drop path: Bao et al. 2022, BEiT; He et al. 2022, MAE; Touvron et al. 2021,
DeiT). `tests/finetuning/test_finetuning.py` holds them to their promises, not to their values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from convit.finetuning.options import is_weight_file
from convit.model import VARIANTS, ConViTConfig
from convit.optimization.precision import pick_device
from convit.transforms import TransformSettings
from convit.weights import find_weight_set, load_model
from convit.weights.fetch import why_unavailable
from convit.weights.weight_sets import BUNDLED_NAMES

STEPS_PER_EPOCH = 20
LEAST_BATCH, MOST_BATCH, MOST_BATCH_ON_CPU = 8, 256, 32
STEPS_IN_ALL = 1000
LEAST_EPOCHS, MOST_EPOCHS = 10, 50
# convit_nano_patch4_32.cifar10 on 10 classes of Tiny ImageNet (600 images, 12 epochs, batch 16, one seed): top-1 of
# 400 validation images is 58 % at half of this rate (2.5e-4), 65 % at 1.5 times (7.5e-4), 66 % at five times (2.5e-3)
LR_AT_64, FROZEN_LR_AT_64 = 1e-3, 2e-3
MIXING_FROM = 2000  # training images
UNEVEN, VERY_UNEVEN = 3.0, 10.0  # largest class over smallest
REPEATABLE = 10  # images of a class that may be shown as often as a large class's many
SMALL_IMAGE = 64  # pixels
ON_GPU = ("convit_small.fb_in1k", "the best of the published ones for its cost")
ON_CPU = (
    "convit_tiny.fb_in1k",
    "without a GPU, the smallest of the published ones: the others need four times as long and more",
)


class StartingWeights(NamedTuple):
    """Trained weights to begin with, and why these; `config` has the model's own image size.

    `is_fallback`: they stand in for the published ones, which cannot be fetched.
    """

    architecture: str
    weights: str
    config: ConViTConfig
    preprocessing: TransformSettings
    reason: str
    is_fallback: bool = False


def find_starting_weights(model: str | None, device: torch.device | None = None) -> StartingWeights:
    """Describe the weights of a name or a file.

    Args:
        model: a weight set, an architecture for its default weights, or a file that `convit train` or
            `convit finetune` wrote. None: "convit_small.fb_in1k" on a GPU, "convit_tiny.fb_in1k" on a CPU; where
            neither the caches nor the hub have them, the weights in the package.
        device: where it will be trained; None for the best there is.

    Raises:
        FileNotFoundError: the name looks like a file, and there is none.
        ValueError: there are no such weights (the message names the closest), or the file is damaged or holds no
            ConViT.
    """
    device = device or pick_device("auto")
    if model is not None and is_weight_file(model):
        return _from_file(Path(model))
    reason, obstacle = "as asked", None
    if model is None:
        model, reason = ON_CPU if device.type == "cpu" else ON_GPU
        if (obstacle := why_unavailable(find_weight_set(model))) is not None:
            reason = f"{model} cannot be fetched ({obstacle}); {BUNDLED_NAMES[0]} is in the package"
            model = BUNDLED_NAMES[0]
    found = find_weight_set(model)
    return StartingWeights(
        found.architecture, found.name, found.config, found.preprocessing, reason, is_fallback=obstacle is not None
    )


def _from_file(path: Path) -> StartingWeights:
    model = load_model(path, in_chans=3)  # images are read as RGB
    architecture = str((model.pretrained_cfg or {}).get("architecture", ""))
    if architecture not in VARIANTS:
        raise ValueError(
            f"{path} does not say which variant it holds; train it with `convit train` and a recipe that names "
            f"model.architecture"
        )
    return StartingWeights(architecture, str(path), model.config, TransformSettings.from_model(model), "as asked")


class Choice(NamedTuple):
    """A setting of the recipe, by "section.name", and why it is so, in plain words."""

    key: str
    value: Any
    reason: str


def choose_batch_size(images: int, *, on_cpu: bool, wanted: int | None = None) -> Choice:
    """Images per step: the power of two that gives some twenty steps per epoch.

    On a CPU it is kept small, for the memory's sake; `wanted` is the user's own.

    Raises:
        ValueError: it is more than there are images, or less than 2.

    >>> choose_batch_size(300, on_cpu=False).value, choose_batch_size(5000, on_cpu=False).value
    (8, 128)
    """
    key = "run.batch_size"
    if wanted is not None:
        if not 2 <= wanted <= images:
            raise ValueError(
                f"the batch size is {wanted}, but must be 2 to {images}, the number of training images; leave it out "
                f"to have it chosen"
            )
        return Choice(key, wanted, "as asked")
    most = MOST_BATCH_ON_CPU if on_cpu else MOST_BATCH
    fair = 2 ** int(math.log2(max(2, images / STEPS_PER_EPOCH)))
    fits = 2 ** int(math.log2(max(2, images)))
    value = min(max(fair, LEAST_BATCH), most, fits)
    reason = f"{images:,} training images make {images // value:,} steps per epoch"
    if value == most:
        reason += ", more would need much memory" if on_cpu else ", more would not learn better"
    elif value == LEAST_BATCH:
        reason += ", fewer images per step would be too noisy"
    return Choice(key, value, reason)


def choose_epochs(images: int, batch_size: int, wanted: int | None = None) -> Choice:
    """Rounds over the images: about a thousand steps in all, 10 rounds at least and 50 at most.

    >>> choose_epochs(300, 8).value, choose_epochs(50_000, 256).value
    (28, 10)
    """
    key = "schedule.epochs"
    if wanted is not None:
        return Choice(key, wanted, "as asked")
    steps = max(1, images // batch_size)
    value = min(max(math.ceil(STEPS_IN_ALL / steps), LEAST_EPOCHS), MOST_EPOCHS)
    why = {
        LEAST_EPOCHS: f"enough for {images:,} images: {steps * LEAST_EPOCHS:,} steps in all",
        MOST_EPOCHS: f"{steps * MOST_EPOCHS:,} steps in all; more rounds would learn so few by heart",
    }
    return Choice(key, value, why.get(value, f"{steps * value:,} steps in all; the fewer images, the more rounds"))


def choose_rate(
    batch_size: int, *, frozen: bool, wanted: float | None = None, factor: float = 1.0, measured: str = ""
) -> list[Choice]:
    """Learning rate and what belongs to it.

    Args:
        batch_size: images per step.
        frozen: only the head is trained.
        wanted: the user's own peak rate of the head.
        factor: of the rule of thumb, where one was found by trying.
        measured: what was found then, in words.
    """
    peak = wanted or factor * (FROZEN_LR_AT_64 if frozen else LR_AT_64) * math.sqrt(batch_size / 64)
    peak = float(f"{peak:.3g}")
    why = "as asked: " if wanted is not None else ""
    why += f"{peak:.2g} at its peak for the head"
    if measured:
        why += f", {measured}"
    elif wanted is None:
        why += ", grown with the square root of the batch" + (", higher for a head alone" if frozen else "")
    rate = [
        # the recipe's number is for 512 images
        Choice("optimizer.lr", float(f"{peak * 512 / batch_size:.6g}"), f"{why} (recipes state it for 512 per step)"),
        Choice("schedule.min_lr", float(f"{peak / 100:.3g}"), "ends at a hundredth of the peak"),
        Choice("schedule.warmup_lr", float(f"{peak / 100:.3g}"), "begins at a hundredth of the peak"),
        Choice("optimizer.weight_decay", 0.05, "as the model was trained"),
        Choice("optimizer.clip_norm", 1.0, "one odd image must not undo what was learned"),
    ]
    if not frozen:
        rate.append(
            Choice("optimizer.layer_decay", 0.75, "lower layers know edges and textures already and change less")
        )
    return rate


def choose_schedule(epochs: int, steps: int) -> list[Choice]:
    """Warm-up, early stopping, weight averaging and what is written at the end, for so many epochs and steps in all."""
    chosen = [
        Choice("schedule.warmup_epochs", round(min(5.0, 0.1 * epochs), 2), "a tenth of the run, for a new head"),
        Choice("schedule.cooldown_epochs", 0, "the best epoch is kept anyway"),
        Choice("run.select", "best", "the epoch with the best top-1 on the validation images is written"),
    ]
    patience = max(5, math.ceil(epochs / 3))
    if patience < epochs:
        chosen.append(
            Choice("schedule.patience", patience, f"stops early after {patience} epochs without a better top-1")
        )
    if steps >= 200:
        decay = round(min(0.999, 1 - 10 / steps), 4)
        why = f"the average over the last tenth or so of {steps:,} steps is steadier than the last step"
        chosen.append(Choice("ema", {"decay": decay}, why))
    return chosen


def choose_augmentation(images: int, side: int, epochs: int, classes: Sequence[str]) -> list[Choice]:
    """How so many training images, at an input `side` in pixels, are varied and mixed."""
    least = 0.5 if side <= SMALL_IMAGE else 0.35
    flips = not _flipping_changes(classes)
    why_not = "not mirrored: the class names mention sides, or are characters or numbers"
    chosen = [
        Choice("augment.scale", [least, 1.0], f"crops of {least:.0%} of an image or more keep its subject in"),
        Choice("augment.flip", 0.5 if flips else 0.0, "mirrored half of the time" if flips else why_not),
        Choice(
            "augment.rand_augment",
            {"operations": 2, "magnitude": 5.0},
            "light changes of color and shape; the model has seen stronger ones",
        ),
        Choice("mixing.label_smoothing", 0.1, "keeps the model from being surer than it may"),
    ]
    if images > MIXING_FROM:
        why = f"two images mixed in half of the steps, since there are more than {MIXING_FROM:,}"
        chosen += [
            Choice("mixing.mixup", 0.2, why),
            Choice("mixing.cutmix", 1.0, "likewise, with pieces"),
            Choice("mixing.probability", 0.5, "half of the steps"),
            Choice("mixing.off_epochs", epochs // 10, "the last epochs see images as they are"),
        ]
    return chosen


def choose_balance(counts: Sequence[int]) -> list[Choice]:
    """What is done where classes have very different numbers of training images.

    >>> [choice.key for choice in choose_balance([100, 20])], choose_balance([100, 40])
    (['mixing.class_weights'], [])
    """
    most, least = max(counts), max(1, min(counts))
    if most <= UNEVEN * least:
        return []
    found = f"the largest class has {most:,} images, the smallest {least:,}"
    if most <= VERY_UNEVEN * least:
        return [Choice("mixing.class_weights", "balanced", f"{found}: images of small classes weigh more in the loss")]
    if least >= REPEATABLE:
        why = f"{found}: small classes are shown more often; as weights in the loss, single images would weigh too much"
        return [Choice("data.balanced", True, why)]
    weights = [round(math.sqrt(most / max(1, count)), 3) for count in counts]
    why = f"{found}: small classes weigh more, by the square root alone, for so few images cannot stand for a class"
    return [Choice("mixing.class_weights", weights, why)]


def _flipping_changes(classes: Sequence[str]) -> bool:
    sided = any({"left", "right"} & set(re.split(r"[^a-z]+", name.lower())) for name in classes)
    # numbers may be all that is known of the classes, but also what the images show
    return sided or all(len(name) == 1 or name.isdecimal() for name in classes)
