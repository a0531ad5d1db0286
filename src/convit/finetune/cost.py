"""What a run will cost, measured before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from convit.data.datasets import ImageDataset, apply_seeded
from convit.finetune.plan import Plan
from convit.finetune.start import find_start
from convit.model import ConViT
from convit.model.counting import count_operations
from convit.optimization.precision import dtype_of
from convit.training.models import freeze
from convit.training.schedule import total_epochs
from convit.training.splits import Split, open_split

WORK = 5e9  # multiply-accumulates of a measured step; larger batches hardly change the time per picture
TRIES, TRY_SECONDS = 3, 2.0
LOADED = 8  # pictures that are loaded to see how long that takes
LONG = 30 * 60  # seconds from which cheaper ways are named


@dataclass(frozen=True)
class Cost:
    """How long a run will take.

    Attributes:
        seconds: of the whole run.
        step_seconds: forward and backward pass of one picture.
        look_seconds: forward pass of one picture.
        load_seconds: reading and varying one picture.
        training: pictures per epoch.
        validation: pictures that validate after each epoch.
        epochs: rounds.
        device: where.
    """

    seconds: float
    step_seconds: float
    look_seconds: float
    load_seconds: float
    training: int
    validation: int
    epochs: int
    device: str

    def __str__(self) -> str:
        speed = self.training * self.epochs / max(self.seconds, 1e-9)
        return (
            f"about {in_words(self.seconds)} on {self.device}: {self.epochs} epochs of {self.training:,} pictures at "
            f"{speed:,.0f} per second (measured on single steps; early stopping may end it sooner)"
        )


def estimate_cost(plan: Plan, device: torch.device) -> Cost:
    """Measure a few steps and multiply.

    Args:
        plan: the run.
        device: where it will be trained.

    Raises:
        ValueError: a setting of the plan does not fit the model.
    """
    recipe = plan.recipe
    start = find_start(recipe.model.weights, device)
    try:
        model = ConViT(start.config.replace(**recipe.model.options))
    except TypeError as error:
        raise ValueError(f"model.options: {error}") from error
    freeze(model, recipe.model.freeze)
    config = model.config
    split = open_split(recipe, plan.root, config.image_height, config.image_width)
    training, validation = (
        len(part) if isinstance(part, ImageDataset) else 0 for part in (split.train, split.validation)
    )
    step, look = _measure_model(model, recipe.run.batch_size, recipe.run.precision, device)
    load = _measure_loading(split)
    epochs = total_epochs(recipe.schedule)
    workers = max(1, recipe.data.workers)
    # on the CPU loading takes its share of the cores that compute; beside a GPU it goes on at the same time
    per_image = step + load / workers if device.type == "cpu" else max(step, load / workers)
    seconds = epochs * (training * per_image + validation * (look + load))
    return Cost(seconds, step, look, load, training, validation, epochs, _name(device))


def advise(plan: Plan, cost: Cost) -> str | None:
    """Cheaper ways, where the run will be long; None where it will not."""
    if cost.seconds < LONG:
        return None
    ways: list[str] = []
    if not plan.recipe.model.freeze:
        frozen = cost.epochs * (cost.training + cost.validation) * (cost.look_seconds + cost.load_seconds)
        ways.append(f"--freeze backbone trains the head alone (about {in_words(frozen)}, usually less accurate)")
    if plan.recipe.model.architecture not in ("convit_tiny", "convit_nano_patch4_32"):
        ways.append("--model convit_tiny.fb_in1k is smaller")
    ways.append("--epochs takes fewer rounds")
    return "cheaper: " + "; ".join(ways)


def in_words(seconds: float) -> str:
    """A time as people say it.

    >>> in_words(40), in_words(1000), in_words(9000)
    ('40 seconds', '17 minutes', '2.5 hours')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 90 * 60 else f"{seconds / 3600:.1f} hours"


def _measure_model(model: ConViT, batch_size: int, precision: str, device: torch.device) -> tuple[float, float]:
    """Seconds per picture of (forward and backward pass, forward pass alone)."""
    batch = int(min(batch_size, max(2, WORK // max(1, count_operations(model, form="fused").macs))))
    dtype = dtype_of(precision)
    model.to(device).train()
    images = torch.randn(batch, 3, model.config.image_height, model.config.image_width, device=device)

    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=precision != "fp32"):
            loss = model(images).float().logsumexp(dim=1).mean()
        loss.backward()
        model.zero_grad(set_to_none=True)

    def look() -> None:
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=precision != "fp32"):
            model(images)

    return _fastest(step, device) / batch, _fastest(look, device) / batch


def _fastest(call: Callable[[], None], device: torch.device) -> float:
    times: list[float] = []
    # the first one makes ready and does not count, unless it has taken long enough to tell
    while len(times) < TRIES and sum(times) < TRY_SECONDS:
        before = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - before)
    return min(times[1:] or times)


def _measure_loading(split: Split) -> float:
    """Seconds to read and vary one picture in one process."""
    if not isinstance(split.train, ImageDataset):
        return 0.0
    training, samples = split.transforms[0], split.train.samples
    begun, done = time.perf_counter(), 0
    for index in range(0, len(samples), max(1, len(samples) // LOADED)):
        try:
            apply_seeded(training, samples.image(index), index)
        except ValueError:
            continue  # unreadable ones are counted in training
        done += 1
    return (time.perf_counter() - begun) / max(1, done)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    threads = torch.get_num_threads()
    return f"this CPU ({threads} {'thread' if threads == 1 else 'threads'})"
