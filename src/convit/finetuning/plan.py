"""From a folder of images to a recipe, each setting with its reason."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from convit.finetuning.images import LabeledImages, divide, find_labeled_images
from convit.finetuning.options import FinetuneOptions
from convit.finetuning.settings import (
    Choice,
    StartingWeights,
    choose_augmentation,
    choose_balance,
    choose_batch_size,
    choose_epochs,
    choose_rate,
    choose_schedule,
    find_starting_weights,
)
from convit.images.names import UNSAFE, escaped
from convit.inference.predicting import usable_cores
from convit.model import ConViTConfig
from convit.optimization.precision import has_bf16, pick_device
from convit.output.files import write_file
from convit.output.text import json_text
from convit.training.models import image_size
from convit.training.recipe import Recipe
from convit.training.recipe_io import make_recipe, read_recipe, set_value
from convit.training.run_folder import RECIPE
from convit.training.splits import Split, open_split

PLAN_FILE = "finetune.json"
FEW = 64  # training images for which starting a loading process takes longer than loading


@dataclass(frozen=True)
class Plan:
    """A recipe, and why it is so.

    Attributes:
        source: the images as the user named them.
        images: what they are, opened once.
        recipe: the whole run.
        choices: settings with reasons, in the order of reading.
        warnings: what the user should know before it starts.
        asked: settings that the user chose, or whole sections of them.
    """

    source: str
    images: LabeledImages = field(repr=False, compare=False)
    recipe: Recipe
    choices: tuple[Choice, ...]
    warnings: tuple[str, ...]
    asked: tuple[str, ...] = ()

    def split(self, model: nn.Module) -> Split:
        """The recipe's training and validation images, as a model takes them."""
        size = image_size(model, self.recipe)
        return open_split(self.recipe, self.images.root, *size, opened=self.images.opened())

    def reasons(self) -> list[Choice]:
        """The choices with the values that the recipe has in the end, where the user changed some."""
        final, chosen = self.recipe.model_dump(mode="json"), list[Choice]()
        for choice in self.choices:
            value: Any = reduce(getitem, choice.key.split("."), final)
            planned = json.loads(json.dumps(choice.value))
            as_planned = planned.items() <= value.items() if isinstance(planned, dict) and value else planned == value
            chosen.append(choice if as_planned else Choice(choice.key, value, "changed with --set"))
        return chosen

    @property
    def may_measure(self) -> bool:
        """Whether the run has one process; several would measure differently, and must agree."""
        return self.recipe.run.devices == 1 and self.recipe.run.nodes == 1

    def is_asked(self, key: str) -> bool:
        """Whether the user chose this setting."""
        return any(key == asked or key.startswith(f"{asked}.") for asked in self.asked)

    def decide(self, *choices: Choice) -> Plan:
        """The plan with other or further settings; those that the user chose stay."""
        values = self.recipe.model_dump(mode="json", exclude_unset=True)
        new = {choice.key: choice for choice in choices if not self.is_asked(choice.key)}
        for choice in new.values():
            set_value(values, choice.key, choice.value)
        kept = {choice.key: choice for choice in self.choices} | new
        return replace(self, recipe=make_recipe(values), choices=tuple(kept.values()))

    def to_yaml(self) -> str:
        """The recipe as a file that `convit train` takes, with the reasons as comments."""
        reasons = {choice.key: choice.reason for choice in self.reasons()}
        told = (f"{self.images.layout}; reasons stand after each setting.", f"convit finetune {self.source}")
        lines = [f"# {escaped(line)}" for line in told]
        for name, content in self.recipe.model_dump(mode="json", exclude_unset=True).items():
            if not isinstance(content, dict) or name in reasons:
                lines.append(_as_yaml({name: content}, reasons.get(name)))
                continue
            lines.append(f"{name}:")
            lines += ["  " + _as_yaml({key: value}, reasons.get(f"{name}.{key}")) for key, value in content.items()]
        return "\n".join(lines) + "\n"

    def save(self, output: Path, **measured: Any) -> None:
        """Write beside the run what a resumed run and the report need besides the recipe.

        Raises:
            OSError: it cannot be written.
        """
        content = {
            "source": self.source,
            "layout": self.images.layout,
            "counts": self.images.counts(),
            "warnings": list(self.warnings),
            "choices": [choice._asdict() for choice in self.choices],
            **measured,
        }
        output.mkdir(parents=True, exist_ok=True)
        write_file(output / PLAN_FILE, json_text(content), overwrite=True)


def plan_finetune(
    source: str | Path,
    options: FinetuneOptions | None = None,
    *,
    device: torch.device | None = None,
    start: StartingWeights | None = None,
) -> Plan:
    """Look at images and decide how to fine-tune on them. Fetches nothing.

    Args:
        source: where the images are; see `convit.finetuning.images.find_labeled_images`.
        options: what the user asked for.
        device: where it will be trained; None for the best there is.
        start: the weights to begin with, where they are known already.

    Raises:
        FileNotFoundError: there is nothing at `source`, or no such weight file.
        ValueError: the images are not as they must be, the weights are unknown, or an option is out of range.
    """
    options, device = options or FinetuneOptions(), device or pick_device("auto")
    base = start or find_starting_weights(options.model, device)
    found = find_labeled_images(source)
    division = divide(found, options.seed or 0)
    images = sum(division.training)
    batch = choose_batch_size(images, on_cpu=device.type == "cpu", wanted=options.batch_size)
    epochs = choose_epochs(images, batch.value, options.epochs)
    size = options.img_size or base.config.img_size
    config = base.config.replace(img_size=size, num_classes=len(found.classes))
    choices = [
        Choice("data.held_out", division.held_out, division.reason),
        *_model_choices(base, config, options),
        batch,
        epochs,
        *choose_rate(batch.value, frozen="backbone" in options.freeze, wanted=options.lr),
        *choose_schedule(epochs.value, epochs.value * (images // batch.value)),
        *choose_augmentation(images, min(config.image_height, config.image_width), epochs.value, found.classes),
        *choose_balance(division.training),
        *_running_choices(device, images),
    ]
    values = _fixed_values(found, base, options)
    for choice in choices:
        set_value(values, choice.key, choice.value)
    recipe = make_recipe(values, options.changes)
    if recipe.data.train != found.train or recipe.data.classes is not None:
        raise ValueError(
            "data.train and data.classes cannot be set here, where all else is chosen by the images that are named; "
            "name others, or take the recipe of --dry-run to `convit train`"
        )
    warnings = (*([base.reason] if base.is_fallback else []), *found.warnings, *division.warnings)
    asked = [change.partition("=")[0].strip() for change in options.changes]
    asked += ["optimizer.lr"] if options.lr is not None else []
    return Plan(str(source), found, recipe, tuple(choices), warnings, tuple(asked))


def resume_plan(source: str | Path, output: Path, options: FinetuneOptions) -> Plan:
    """The plan of a run that was cut off, from what it left in its folder; options that are given replace its own.

    Raises:
        FileNotFoundError: there is no such run, or nothing at `source`.
        ValueError: the images have changed, an option is out of range, or what the run left is damaged.
    """
    if not (output / PLAN_FILE).is_file() or not (output / RECIPE).is_file():
        raise FileNotFoundError(
            f"there is no fine-tuning run in {output}; start without --resume, or give the run's folder with --output"
        )
    try:
        kept = json.loads((output / PLAN_FILE).read_text(encoding="utf-8"))
        choices = tuple(Choice(**choice) for choice in kept["choices"])
        counts, warnings = dict(kept["counts"]), tuple(kept["warnings"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{output / PLAN_FILE} is damaged ({error}); start again with another --output") from error
    found = find_labeled_images(source)
    if found.counts() != counts:
        raise ValueError(
            f"{source} holds {sum(found.counts().values())} images, but the run in {output} began with "
            f"{sum(counts.values())} or others; bring the images back, or start again with another --output"
        )
    own = read_recipe(output / RECIPE)
    recipe = make_recipe(own.model_dump(mode="json"), [*_as_changes(options, own), *options.changes])
    return Plan(str(source), found, recipe, choices, warnings)


def _fixed_values(found: LabeledImages, base: StartingWeights, options: FinetuneOptions) -> dict[str, Any]:
    """What needs no reason: names, paths, and the model's own preprocessing."""
    preprocessing = base.preprocessing.to_dict()
    del preprocessing["input_size"]  # which is the model's
    values: dict[str, Any] = {
        "name": f"finetune-{found.name}",
        "seed": options.seed or 0,
        "model": {"architecture": base.architecture},
        "data": {"name": found.name, "train": found.train},
        "augment": {**preprocessing, "crop": "resized"},
    }
    if found.validation is not None:
        values["data"]["validation"] = found.validation
    return values


def _model_choices(base: StartingWeights, config: ConViTConfig, options: FinetuneOptions) -> list[Choice]:
    fields: dict[str, Any] = {"num_classes": config.num_classes}
    whence = "as the model was trained"
    if options.img_size is not None:
        fields["img_size"], whence = _as_setting(options.img_size), "as asked"
    if "backbone" not in options.freeze:
        fields["drop_path_rate"] = 0.1
    size = f"{config.image_height} x {config.image_width} pixels, {whence}"
    why = f"a new head for {config.num_classes} classes; images of {size}"
    frozen = [Choice("model.freeze", list(options.freeze), "as asked")] if options.freeze else []
    return [Choice("model.weights", base.weights, base.reason), Choice("model.options", fields, why), *frozen]


def _running_choices(device: torch.device, images: int) -> list[Choice]:
    if device.type == "cuda":
        fastest = "bf16" if has_bf16(device) else "fp16"
        precision = Choice("run.precision", fastest, f"the GPU computes in {fastest}")
    else:
        precision = Choice("run.precision", "auto", "bf16 where the processor trains faster in it, else fp32")
    cores = usable_cores()
    workers = min(cores, 16) if device.type == "cuda" else 1 if cores < 8 else 2
    why = f"of {cores} cores" + ("" if device.type == "cuda" else ", the others compute")
    if images < FEW:
        workers, why = 0, "so few images are loaded sooner than a process is started"
    return [
        precision,
        Choice("data.workers", workers, why),
        Choice(
            "data.corrupt_limit", max(1, min(20, images // 5), images // 100), "more unreadable images stop the run"
        ),
        Choice("run.accumulate", "auto", "a step is computed in parts where the GPU's memory is small"),
        Choice("run.devices", 1, "one device is enough for a run of this size"),
        Choice("run.attention_images", 0, "gates are not watched: they cost time; 128 turns that on"),
    ]


def _as_changes(options: FinetuneOptions, recipe: Recipe) -> list[str]:
    """Options that are given beside --resume, as the settings that `plan_finetune` makes of them."""
    given: dict[str, Any] = {
        "seed": options.seed,
        "schedule.epochs": options.epochs,
        "run.batch_size": options.batch_size,
        "model.freeze": list(options.freeze) or None,
    }
    if options.lr is not None:
        rates = choose_rate(options.batch_size or recipe.run.batch_size, frozen=True, wanted=options.lr)
        given |= {choice.key: choice.value for choice in rates if choice.key.endswith("lr")}
    if options.model is not None:
        given["model.weights"] = find_starting_weights(options.model).weights
    if options.img_size is not None:
        given["model.options.img_size"] = _as_setting(options.img_size)
    return [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]


def _as_setting(size: int | tuple[int, int]) -> int | list[int]:
    """A size of images as recipes hold it: of squares the side."""
    return size if isinstance(size, int) else size[0] if size[0] == size[1] else [*size]


def _as_yaml(pair: dict[str, Any], reason: str | None) -> str:
    """One line, whatever is nested in the value."""
    dump = partial(yaml.safe_dump, pair, sort_keys=False, default_flow_style=True, width=1_000_000)
    text = dump(allow_unicode=True).strip()[1:-1]
    text = dump().strip()[1:-1] if UNSAFE.search(text) else text
    return text if reason is None else f"{text}  # {escaped(reason)}"
