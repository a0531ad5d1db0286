"""What suits this machine and this model, found by trying: parts that fit into memory, and the faster precision."""

from __future__ import annotations

import time
from copy import deepcopy

import torch
from torch import nn

from convit.optimization.precision import computed_in, dtype_of, has_bf16, pick_device
from convit.optimization.timing import settling
from convit.training.models import class_count
from convit.training.recipe import Recipe

TRIES, TRY_SECONDS = 3, 2.0
TRIAL_BATCH = 16  # images at most; larger batches hardly change which precision is faster
GAIN = 1.1  # times as fast bf16 has to be, since fp32 rounds less


def choose_parts(recipe: Recipe, model: nn.Module, size: tuple[int, int], world_size: int, device: torch.device) -> int:
    """`run.accumulate`, found by trying where it is "auto": as few parts as fit, each half of the one before.

    Tried is a forward and backward pass with images of `size` (height, width); the model's weights stay as they are.
    A CPU has no limit that could be tried safely: one part.

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
    model.to(device).train()
    try:
        _pass(model, torch.zeros(batch, 3, *size, device=device), precision, train=True)
    except torch.OutOfMemoryError:
        return False
    finally:
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return True


def choose_precision(recipe: Recipe, model: nn.Module, size: tuple[int, int]) -> tuple[str, str]:
    """`run.precision`, measured where it is "auto": bf16 where its training steps on this CPU are faster than fp32's.

    Only processors that multiply bf16 numbers faster are tried. Several processes must agree and do not measure: they
    take bf16 on such processors. GPUs take bf16 from Ampere on and fp16 before.

    A copy of the model is measured, at images of `size` (height, width).

    Returns:
        ("fp32", "bf16" or "fp16", why).
    """
    wanted, device, run = recipe.run.precision, pick_device(), recipe.run
    if wanted != "auto":
        return computed_in(wanted, device), f"run.precision is {wanted}, which this device computes so"
    if device.type != "cpu":
        found = "fp32" if device.type != "cuda" else "bf16" if has_bf16(device) else "fp16"
        return found, f"for {device.type}"
    native = computed_in("bf16", device)
    if native == "fp32" or run.devices not in ("auto", 1) or run.nodes > 1:
        return native, f"the processor multiplies {native} numbers fastest"
    batch = min(run.batch_size, TRIAL_BATCH)
    seconds = {precision: time_pass(model, batch, size, precision, device) for precision in ("fp32", "bf16")}
    measured = ", ".join(f"{precision} {1000 * each / batch:.2f} ms" for precision, each in seconds.items())
    found = "bf16" if seconds["bf16"] * GAIN < seconds["fp32"] else "fp32"
    return found, f"measured per image of a training step: {measured}"


def time_pass(
    model: nn.Module, batch: int, size: tuple[int, int], precision: str, device: torch.device, *, train: bool = True
) -> float:
    """Seconds of a forward and backward pass, the fastest of a few.

    A copy of the model is measured on random images (batch, 3, *size); random numbers stay as they are. `train=False`
    measures the forward pass alone.
    """
    model = deepcopy(model).to(device).train(train)
    times: list[float] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        images = torch.randn(batch, 3, *size, device=device)
        # the first one makes ready and does not count, unless it has taken long enough to tell
        while len(times) < TRIES and sum(times) < TRY_SECONDS:
            before = time.perf_counter()
            _pass(model, images, precision, train=train)
            settling(device)()
            times.append(time.perf_counter() - before)
            model.zero_grad(set_to_none=True)
    return min(times[1:] or times)


def _pass(model: nn.Module, images: torch.Tensor, precision: str, *, train: bool) -> None:
    autocast = torch.autocast(images.device.type, dtype_of(precision), enabled=precision != "fp32")
    with torch.set_grad_enabled(train), autocast:
        logits = model(images)
    if train:
        logits[:, : class_count(model)].float().logsumexp(dim=1).sum().backward()
