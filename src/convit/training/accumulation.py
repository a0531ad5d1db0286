"""How many parts a step must be computed in so that it fits into a GPU's memory."""

from __future__ import annotations

import torch
from torch import nn

from convit.optimization.precision import dtype_of
from convit.training.models import class_count
from convit.training.recipe import Recipe


def choose_parts(recipe: Recipe, model: nn.Module, size: tuple[int, int], world_size: int, device: torch.device) -> int:
    """`run.accumulate`, found by trying where it is "auto": as few parts as fit, each half of the one before.

    Args:
        recipe: the run.
        model: tried with one forward and backward pass at its batch size; its weights stay as they are.
        size: height and width of the images, pixels.
        world_size: number of processes.
        device: where it will run. A CPU has no such limit that could be tried safely: one part.

    Raises:
        ValueError: two images are too many.
    """
    if recipe.run.accumulate != "auto":
        return recipe.run.accumulate
    if not can_run_out(device):
        return 1
    share, parts = recipe.run.batch_size // world_size, 1
    while share // parts >= 2:
        if share % (2 * parts) == 0 and fits(model, share // parts, size, recipe.run.precision, device):
            return parts
        parts *= 2
    raise ValueError(
        f"two images of {size[0]} x {size[1]} pixels do not fit into the memory of {device}; set "
        f"run.activation_checkpointing=true, or take a smaller model or image size"
    )


def can_run_out(device: torch.device) -> bool:
    """Whether too large a batch ends in an error that can be caught, and not in a machine that stands still."""
    return device.type == "cuda"


def fits(model: nn.Module, batch: int, size: tuple[int, int], precision: str, device: torch.device) -> bool:
    """Whether a forward and backward pass of so many images fits into the device's memory."""
    dtype = dtype_of(precision)
    model.to(device)
    try:
        with torch.autocast(device.type, dtype, enabled=precision != "fp32"):
            images = torch.zeros(batch, 3, *size, device=device)
            model.train()(images)[:, : class_count(model)].float().sum().backward()
    except torch.OutOfMemoryError:
        return False
    finally:
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return True
