"""Top-1 of a run's final weights on images that training never saw; the same for ConViT and for models of timm."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch.utils.data import DataLoader

from convit.data import ImageDataset, open_dataset
from convit.data.locate import read_class_names
from convit.training.image_transforms import transforms_for
from convit.training.models import build_model, image_size
from convit.training.recipe import Recipe
from convit.training.schedule import total_epochs

BATCH_SIZE = 250


def open_test(recipe: Recipe, data: str | Path, test: str) -> ImageDataset:
    """The test images, undecoded.

    Args:
        recipe: a run whose classes they have.
        data: folder that paths start from.
        test: as `convit.data.open_dataset` takes it.

    Raises:
        FileNotFoundError: they are absent.
        ValueError: they are not as they must be.
    """
    names = recipe.data.classes
    classes = read_class_names(Path(data, names)) if names else None
    return open_dataset(test, classes=classes, root=data)


def measure_top1(recipe: Recipe, weights: str | Path, images: ImageDataset) -> float:
    """Top-1 in percent: fp32, one center crop, the recipe's own evaluation transform.

    Args:
        recipe: the run.
        weights: the `weights.safetensors` that it wrote.
        images: what `open_test` gave.

    Raises:
        ValueError: the weights are not of this recipe's model, or an image cannot be read.
    """
    model = build_model(recipe)
    _, transform = transforms_for(recipe, *image_size(model, recipe))
    transform.begin_epoch(total_epochs(recipe.schedule) - 1)
    state = safetensors.torch.load_file(weights)
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    except RuntimeError as error:
        raise ValueError(
            f"{weights} does not fit {recipe.model.architecture} ({str(error).splitlines()[0]}); remove it, and it is "
            f"trained anew"
        ) from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.eval().to(device)
    prepared = ImageDataset(images.samples, transform, indices=images.indices, classes=images.classes)
    hits = 0
    with torch.inference_mode():
        for batch, labels in DataLoader(prepared, BATCH_SIZE):
            hits += int((model(batch.to(device)).argmax(dim=1).cpu() == labels).sum())
    return 100 * hits / len(prepared)
