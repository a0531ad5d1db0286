"""What the embeddings of the weights to begin with are worth before any training: logistic regression on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from convit.data.datasets import ImageDataset
from convit.data.samples import Part
from convit.evaluation.probes.embedded import Embedded, embed_labeled
from convit.evaluation.probes.fitting import UNCHOSEN_STRENGTH, choose_strength, fit_linear
from convit.evaluation.probes.task import share_of_each
from convit.finetuning.plan import PLAN_FILE, Plan
from convit.inference import Embedder
from convit.model import ConViT
from convit.optimization import optimize
from convit.optimization.precision import pick_device
from convit.training.final_weights import FittedHead
from convit.training.models import build_model
from convit.training.recipe import Recipe
from convit.weights.progress import bar

MOST_TRAINED, MOST_CHOSEN_ON = 20_000, 5_000  # training images of which the regression learns, and chooses C


@dataclass(frozen=True)
class Baseline:
    """How well logistic regression on frozen embeddings tells the validation images.

    Attributes:
        top1: percent.
        count: validation images.
        images: training images that it learned from.
        strength: C, chosen by cross-validation on them.
        weights: that embedded the images.
        unreadable: training images that could not be read.
    """

    top1: float
    count: int
    images: int
    strength: float
    weights: str
    unreadable: int = 0

    def __str__(self) -> str:
        return (
            f"{self.top1:.1f} % of {self.count:,} validation images by logistic regression on the embeddings of "
            f"{self.weights}, without training it"
        )


def fit_baseline(plan: Plan, *, quiet: bool = False) -> tuple[Baseline, FittedHead] | None:
    """Embed the images of a plan as validation sees them, and fit a head to those that are trained on.

    Of more than 20,000 training images so many are drawn, the same share of each class.

    Returns:
        What it is worth, and the head; None for models of other libraries, streams, and where no image can be
        compared.
    """
    recipe, model = plan.recipe, build_model(plan.recipe)
    if not isinstance(model, ConViT):
        return None
    config, classes = model.config, model.num_classes
    model.reset_classifier(0)
    split = plan.split(model)
    if not isinstance(split.train, ImageDataset) or not isinstance(split.validation, ImageDataset):
        return None
    prepared = recipe.augment.preprocessing(config.image_height, config.image_width)
    model.pretrained_cfg = {**model.pretrained_cfg, **prepared.to_dict()}
    embedder = Embedder(optimize(model.eval().to(pick_device()), "fp32"))
    labels = np.array([split.train.label(index) for index in range(len(split.train))])
    drawn = share_of_each(labels, MOST_TRAINED, 2, recipe.seed)
    train = _embed(split.train, drawn.tolist(), embedder, quiet=quiet)
    test = _embed(split.validation, range(len(split.validation)), embedder, quiet=quiet)
    if len(np.unique(train.labels)) < classes or not len(test.labels):
        return None
    strength = _choose(train, recipe.seed)
    weight, bias = (torch.from_numpy(each).float() for each in fit_linear(train.vectors, train.labels, strength))
    logits, right = torch.from_numpy(test.vectors) @ weight.T + bias, torch.from_numpy(test.labels)
    top1 = 100 * (logits.argmax(dim=1) == right).double().mean().item()
    head = FittedHead(weight, bias, top1, F.cross_entropy(logits, right).item())
    known = Baseline(top1, len(test.labels), len(train.labels), strength, recipe.model.start, len(train.unreadable))
    return known, head


def advise_freezing(baseline: Baseline | None, top1: float | None, recipe: Recipe) -> str:
    """What to try where training has made the features worse than they were; empty if it has not."""
    if baseline is None or top1 is None or baseline.top1 <= top1 or "backbone" in recipe.model.freeze:
        return ""
    return (
        f"the features before training did better ({baseline.top1:.1f} % against {top1:.1f} %): try --freeze backbone, "
        "which starts from them"
    )


def read_baseline(folder: Path) -> Baseline | None:
    """What a run's folder says of its baseline; None if it says nothing."""
    file = folder / PLAN_FILE
    kept = json.loads(file.read_text(encoding="utf-8")).get("baseline") if file.is_file() else None
    return Baseline(**kept) if kept else None


def _embed(dataset: ImageDataset, indices: Sequence[int], embedder: Embedder, *, quiet: bool) -> Embedded:
    images = Part(dataset.samples, sorted(dataset.indices[index] for index in indices))
    images.classes = None  # labels count as the model does
    with bar("embedding", len(images), shown=not quiet) as advance:
        return embed_labeled(images, embedder, {}, advance=advance)


def _choose(train: Embedded, seed: int) -> float:
    """C by cross-validation, among classes of which an image can be left out."""
    kept = np.flatnonzero((np.bincount(train.labels) > 1)[train.labels])
    rows = kept[share_of_each(train.labels[kept], MOST_CHOSEN_ON, 2, seed)] if len(kept) else kept
    kinds, labels = np.unique(train.labels[rows], return_inverse=True)
    if len(kinds) < 2:
        return UNCHOSEN_STRENGTH
    return choose_strength(train.vectors[rows], labels, seed=seed).strength
