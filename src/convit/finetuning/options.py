"""What a user asks of a fine-tuning run, and what can be refused at once: before torch is imported or an image read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from convit.data.locate import check_there
from convit.images.names import not_found
from convit.training.places import check_unused
from convit.training.recipe_io import make_recipe
from convit.weights.files import READABLE
from convit.weights.weight_sets import find_weight_set, local_weights


@dataclass(frozen=True)
class FinetuneOptions:
    """What the user asked for; None leaves the choice to `plan_finetune`.

    Attributes:
        model: weights to start from, a name or a file.
        img_size: side of the model's input, or (height, width), pixels.
        epochs: rounds over the images.
        batch_size: images per step.
        lr: peak learning rate of the head.
        seed: start of all randomness, and of which images are held out.
        freeze: what is not trained, as the recipe's `model.freeze`.
        changes: "section.key=value" each, applied last.

    Raises:
        FileNotFoundError: `model` looks like a file, and there is none.
        ValueError: the weights are unknown, a number is out of range, or a change is not a setting of recipes.
    """

    model: str | None = None
    img_size: int | tuple[int, int] | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    seed: int | None = None
    freeze: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.model is not None and not is_weight_file(self.model):
            find_weight_set(self.model)
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"the number of epochs is {self.epochs}, but must be at least 1")
        if self.batch_size is not None and self.batch_size < 2:
            raise ValueError(f"the batch size is {self.batch_size}, but must be at least 2")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ValueError(f"the learning rate is {self.lr}, but must be above 0, such as 3e-4")
        make_recipe({"name": "", "model": {"architecture": ""}, "data": {"name": "", "train": ""}}, self.changes)


def is_weight_file(model: str) -> bool:
    """Whether a model is named by a file or folder of weights.

    Raises:
        FileNotFoundError: it looks like a file, and there is none.
    """
    path = Path(model).expanduser()
    if model.endswith(READABLE) and not path.exists():
        raise not_found(path, f"there is no weight file {model}; correct it, or name weights of `convit models`")
    return local_weights(model) is not None


def default_folder(images: str | Path) -> Path:
    """Where a run goes that nobody named a folder for: runs/NAME, after the images."""
    return Path("runs") / (Path(images).resolve().name or "images")


def check_places(images: str | Path, output: Path) -> None:
    """Refuse a folder of images that is not there, or of the run that holds one already or would become a class.

    Raises:
        FileNotFoundError: there is no such folder of images.
        FileExistsError: the output holds a run.
        NotADirectoryError: it is a file.
        ValueError: it lies inside the folder of images.
    """
    check_there(images)
    check_unused(output)
    if Path(images).is_dir() and output.resolve().is_relative_to(Path(images).resolve()):
        raise ValueError(
            f"the output {output} lies inside the folder of images {images}, where it would become a class; choose "
            f"another --output"
        )
