"""Recipes: everything that fixes a training run, as YAML that is checked key by key."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError


class Section(BaseModel):
    """What all sections share: unknown keys are errors, values keep their type, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelRecipe(Section):
    """Which model is trained.

    Attributes:
        architecture: a variant, as in `convit models`.
        options: fields of `ConViTConfig` that differ from it, such as drop_path_rate or num_classes.
    """

    architecture: str
    options: dict[str, Any] = Field(default_factory=dict)


class DataRecipe(Section):
    """What it is trained on.

    Attributes:
        name: what the data is called in the file that is written.
        terms: the images' terms of use, one sentence; written into the file too.
        train: shards (pattern or list of patterns) or an image folder, relative to --data.
        classes: JSON file with the class names, relative to --data; without it a folder's sub-folders.
        reader: "memory" keeps encoded samples in memory, "stream" reads shards one after the other.
        decode: "once" keeps decoded pixels in memory, for small images of one size; "each" decodes whenever an image is
            used.
        held_out: training images (whole shards with "stream") that are kept from training, to watch it by.
        samples: number of training images, needed with "stream" alone.
        shuffle_buffer: images that "stream" shuffles among.
        workers: processes that load; 0 loads in the main process.
    """

    name: str
    terms: str = ""
    train: str | list[str]
    classes: str | None = None
    reader: Literal["memory", "stream"] = "memory"
    decode: Literal["each", "once"] = "each"
    held_out: int = Field(default=0, ge=0)
    samples: PositiveInt | None = None
    shuffle_buffer: PositiveInt = 10000
    workers: int = Field(default=1, ge=0)


class RandAugmentRecipe(Section):
    """RandAugment; "rand-m9-mstd0.5-inc1" are the defaults."""

    operations: PositiveInt = 2
    magnitude: float = Field(default=9.0, ge=0, le=10)
    noise: float = Field(default=0.5, ge=0)
    probability: float = Field(default=0.5, ge=0, le=1)


class AugmentRecipe(Section):
    """How single images are preprocessed and varied; the arguments of `training_transform`."""

    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    crop_pct: float = Field(default=0.875, gt=0, le=1)
    crop: Literal["resized", "padded", "none"] = "resized"
    scale: tuple[float, float] = (0.08, 1.0)
    padding: int = Field(default=4, ge=0)
    flip: float = Field(default=0.5, ge=0, le=1)
    rand_augment: RandAugmentRecipe | None = None
    color_jitter: float = Field(default=0.0, ge=0)
    erasing: float = Field(default=0.0, ge=0, le=1)
    repeats: PositiveInt = 1


class MixingRecipe(Section):
    """How images of a batch are mixed.

    Attributes:
        mixup: alpha of mixup's Beta distribution; 0 leaves it out.
        cutmix: the same for cutmix.
        probability: that a batch is mixed at all.
        switch: that a mixed batch takes cutmix, where both are on.
        label_smoothing: share of the target that is spread over all classes.
        off_epochs: last epochs without mixing.
    """

    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)
    probability: float = Field(default=1.0, ge=0, le=1)
    switch: float = Field(default=0.5, ge=0, le=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    off_epochs: int = Field(default=0, ge=0)


class OptimiserRecipe(Section):
    """AdamW. `lr` is meant for 512 images per step and scaled with the true number."""

    lr: PositiveFloat = 5e-4
    weight_decay: float = Field(default=0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    clip_norm: PositiveFloat | None = None


class ScheduleRecipe(Section):
    """Epochs and the learning rate's way: linear warm-up, cosine, constant cool-down.

    Rates are scaled as `lr` is, except `warmup_lr` and `min_lr`.
    """

    epochs: PositiveInt = 300
    warmup_epochs: float = Field(default=5.0, ge=0)
    warmup_lr: float = Field(default=1e-6, ge=0)
    min_lr: float = Field(default=1e-5, ge=0)
    cooldown_epochs: int = Field(default=10, ge=0)


class EmaRecipe(Section):
    """Exponential moving average of the weights; the average is what is evaluated and exported."""

    decay: float = Field(default=0.999, ge=0, lt=1)


class RunRecipe(Section):
    """How it runs.

    Attributes:
        batch_size: images per step in all processes together.
        accumulate: parts that a step's images are computed in.
        precision: "fp32", "bf16" (mixed) or "fp16" (mixed).
        compile: runs the model through torch.compile.
        devices: "auto" or a number of processes or GPUs.
        checkpoint_minutes: time between checkpoints within an epoch; each epoch ends with one too.
        keep: checkpoints that are kept.
        export: precision of the weights that are written at the end.
    """

    batch_size: PositiveInt = 1024
    accumulate: PositiveInt = 1
    precision: Literal["fp32", "bf16", "fp16"] = "bf16"
    compile: bool = False
    devices: Literal["auto"] | PositiveInt = "auto"
    checkpoint_minutes: PositiveFloat = 10.0
    keep: PositiveInt = 2
    export: Literal["fp32", "fp16", "bf16"] = "fp32"


class Recipe(Section):
    """A whole training run."""

    name: str
    seed: int = Field(default=0, ge=0)
    model: ModelRecipe
    data: DataRecipe
    augment: AugmentRecipe = AugmentRecipe()
    mixing: MixingRecipe = MixingRecipe()
    optimiser: OptimiserRecipe = OptimiserRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    ema: EmaRecipe | None = None
    run: RunRecipe = RunRecipe()


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: YAML file.
        changes: "section.key=value" each, values in YAML; they replace what the file says.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no YAML mapping, a key is unknown (the message names the closest), or a value has the
            wrong type or range.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe {path}; the project's own are in recipes/")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no recipe; it must map section names to settings, as those in recipes/ do")
    values = cast(dict[str, Any], content)
    for change in changes:
        _apply(values, change)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{path}: {_explain(error)}") from error


def _apply(values: dict[str, Any], change: str) -> None:
    name, sign, text = change.partition("=")
    keys = name.strip().split(".")
    if not sign or not all(keys):
        raise ValueError(f"{change!r} is no setting; write it as section.key=value, such as schedule.epochs=10")
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if inner is None:
            inner = values[key] = {}
        if not isinstance(inner, dict):
            raise ValueError(f"{change!r} sets a key inside {key}, which is no section")
        values = cast(dict[str, Any], inner)
    try:
        value = yaml.safe_load(text)
        # YAML 1.1 takes 1e-3 for a string, for want of a dot.
        values[keys[-1]] = _as_number(value) if isinstance(value, str) else value
    except yaml.YAMLError as error:
        raise ValueError(f"the value of {change!r} is no YAML: {' '.join(str(error).split())}") from error


def _as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _explain(error: ValidationError) -> str:
    """The first error in one line; unknown keys come with the closest known one."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _keys_beside(first["loc"])
        close = get_close_matches(str(first["loc"][-1]), known, 1, 0.0)
        name = ".".join([*map(str, first["loc"][:-1]), *close])
        return f"unknown key {where!r}; the closest is {name!r} (there are: {', '.join(known)})"
    if first["type"] == "missing":
        return f"the key {where!r} is missing"
    return f"{where!r} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _keys_beside(location: tuple[int | str, ...]) -> list[str]:
    section: type[BaseModel] = Recipe
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return list(section.model_fields)
