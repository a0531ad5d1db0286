"""What a run will cost, measured before it starts."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from convit.data.datasets import ImageDataset, apply_seeded
from convit.finetuning.plan import Plan
from convit.finetuning.settings import Choice, find_starting_weights
from convit.images.listing import evenly_spaced
from convit.model import VARIANTS, ConViT
from convit.model.counting import count_operations
from convit.optimization.precision import describe_device
from convit.optimization.timing import thread_count
from convit.training.epoch_log import duration
from convit.training.models import freeze, image_size
from convit.training.splits import Split
from convit.training.trials import choose_precision, time_pass

WORK = 5e9  # multiply-accumulates of a measured step; larger batches hardly change the time per image
LOADED = 8  # images that are loaded to see how long that takes
LONG = 30 * 60  # seconds from which cheaper ways are named
LARGER = ("convit_tiny_plus", "convit_small", "convit_base")  # than convit_tiny, of the published ones


@dataclass(frozen=True)
class Cost:
    """How long a run will take.

    Attributes:
        seconds: of the whole run.
        look_seconds, load_seconds: forward pass of one image; reading and varying one.
        training, validation: images per epoch.
        epochs: with cool-down.
        device: in words.
    """

    seconds: float
    look_seconds: float
    load_seconds: float
    training: int
    validation: int
    epochs: int
    device: str

    def __str__(self) -> str:
        rounds = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        speed = self.training * self.epochs / max(self.seconds, 1e-9)
        return (
            f"about {duration(self.seconds)} on {self.device}: {rounds} of {self.training:,} images at "
            f"{speed:,.0f} per second (measured on single steps; early stopping may end it sooner)"
        )


def measure(plan: Plan, device: torch.device) -> tuple[Plan, Cost]:
    """Measure a few steps and multiply; on a CPU also keep in what precision and with how many threads it computes.

    Raises:
        ValueError: a setting of the plan does not fit the model.
    """
    recipe = plan.recipe
    from_scratch = VARIANTS.get(recipe.model.architecture) if recipe.model.weights is None else None
    base = from_scratch or find_starting_weights(recipe.model.weights, device)
    try:
        model = ConViT(base.config.replace(**recipe.model.options))
    except TypeError as error:
        raise ValueError(f"model.options: {error}") from error
    freeze(model, recipe.model.freeze)
    split, size = plan.split(model), image_size(model, recipe)
    training, validation = (
        len(part) if isinstance(part, ImageDataset) else 0 for part in (split.train, split.validation)
    )
    batch = int(min(recipe.run.batch_size, max(2, WORK // max(1, count_operations(model, form="fused").macs))))
    precision, why = choose_precision(recipe, model, size)
    if device.type == "cpu" and plan.may_measure:
        kept = "what PyTorch takes here, kept so that a resumed run computes alike"
        in_use = Choice("run.threads", torch.get_num_threads(), kept)
        plan = plan.decide(Choice("run.precision", precision, why), in_use)
    threads = plan.recipe.run.threads
    with thread_count(threads):
        step, look = (time_pass(model, batch, size, precision, device, train=train) / batch for train in (True, False))
        load = _measure_loading(split)
        where = describe_device(device).replace("cpu (", "this CPU (")
    epochs = recipe.schedule.total_epochs
    workers = max(1, recipe.data.workers)
    # on the CPU loading takes its share of the cores that compute; beside a GPU it goes on at the same time
    per_image = step + load / workers if device.type == "cpu" else max(step, load / workers)
    seconds = epochs * (training * per_image + validation * (look + load))
    return plan, Cost(seconds, look, load, training, validation, epochs, where)


def advise(plan: Plan, cost: Cost) -> str | None:
    """Cheaper ways, where the run will be long; None if it will not."""
    if cost.seconds < LONG:
        return None
    ways: list[str] = []
    if not plan.recipe.model.freeze:
        frozen = cost.epochs * (cost.training + cost.validation) * (cost.look_seconds + cost.load_seconds)
        ways.append(f"--freeze backbone trains the head alone (about {duration(frozen)}, usually less accurate)")
    if plan.recipe.model.architecture.startswith(LARGER):
        ways.append("--model convit_tiny.fb_in1k is smaller")
    ways.append("--epochs takes fewer rounds")
    return "cheaper: " + "; ".join(ways)


def _measure_loading(split: Split) -> float:
    """Seconds to read and vary one image in one process."""
    if not isinstance(split.train, ImageDataset):
        return 0.0
    training, samples = split.transforms[0], split.train.samples
    begun, done = time.perf_counter(), 0
    for index in evenly_spaced(LOADED, len(samples)):
        try:
            apply_seeded(training, samples.image(index), index)
        except ValueError:
            continue  # unreadable ones are counted in training
        done += 1
    return (time.perf_counter() - begun) / max(1, done)
