"""The weights that a run ends with: the moving average, those of the best epoch, and their file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn

from convit.model import ConViT
from convit.optimization.precision import dtype_of
from convit.output.text import epoch_score
from convit.training.recipe import Recipe
from convit.weights import save_weights
from convit.weights.files import tensors_to_write, write_tensors
from convit.weights.resolving import inference_config
from convit.weights.timm_config import accompany


class MovingAverage(WeightAveraging):
    """Lightning's average of the weights with a warm-up; validation and the end of training see the average.

    Args:
        decay: share of the average that a step keeps, in [0, 1). Early on it is smaller, (1 + steps) / (10 + steps),
            so that the random start is soon forgotten.
    """

    def __init__(self, decay: float) -> None:
        @torch.no_grad()
        def update(averages: list[Tensor], weights: list[Tensor], steps: Tensor) -> None:
            done = int(steps) + 1
            torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + done) / (10 + done)))  # pyright: ignore[reportPrivateImportUsage]

        super().__init__(use_buffers=False, multi_avg_fn=update)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in until `BestWeights` has seen it."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        super().on_validation_epoch_end(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in also where the checkpoint was that of the last step, so that training did not begin."""
        super().on_train_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave, or the average that checkpoints once held among the callbacks' states."""
        if "average" in state_dict:
            assert self._average_model is not None
            average = {f"module.{name}": tensor for name, tensor in state_dict["average"].items()}
            self._average_model.load_state_dict(
                {**average, "n_averaged": torch.tensor(state_dict["steps"])}, strict=False
            )
            state_dict = {"latest_update_step": state_dict["steps"]}
        super().load_state_dict(state_dict)

    @property
    def state_key(self) -> str:
        """The name that the state has in checkpoints, also in those of before."""
        return "WeightAveraging"


class FittedHead(NamedTuple):
    """A head that was fitted before training: (classes, dim), (classes,); and its scores on the validation images.

    `top1` is in percent, `loss` the mean cross-entropy.
    """

    weight: Tensor
    bias: Tensor
    top1: float
    loss: float


class BestWeights(Callback):
    """Keeps the weights of the epoch with the best `epoch_score`, as they were validated: averaged, where they are.

    Must stand before `MovingAverage` among the callbacks, which takes the average out again after validation. What was
    measured with another `crop`, in words, is not taken up.
    """

    def __init__(self, crop: str = "") -> None:
        self.crop = crop
        self.score: tuple[float, float, int] = (-1.0, -inf, 0)
        self.weights: dict[str, Tensor] = {}

    def begin_with(self, model: nn.Module, head: FittedHead) -> None:
        """Count the start of training, with such a head, as epoch 0, which the others have to beat."""
        self.score = head.top1, -head.loss, 0
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @property
    def outcome(self) -> dict[str, Any]:
        """The best epoch with its scores, as a line of the log says them."""
        return {"epoch": self.epoch, "val_loss": -self.score[1], "val_top1": self.score[0]}

    @property
    def epoch(self) -> int:
        """Number of the best epoch so far, from 1; 0 before the first."""
        return self.score[2]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the weights where they are better than all before."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        score = epoch_score({**metrics, "epoch": trainer.current_epoch + 1})
        if score > self.score:
            model: Any = pl_module.model
            self.score = score
            self.weights = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """The best weights so far, their top-1 in percent, their validation loss, their epoch and the crop."""
        top1, minus_loss, epoch = self.score
        return {"top1": top1, "loss": -minus_loss, "epoch": epoch, "weights": self.weights, "crop": self.crop}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        if state_dict.get("crop", self.crop) != self.crop:
            return
        self.score = state_dict["top1"], -state_dict.get("loss", inf), state_dict["epoch"]
        self.weights = dict(state_dict["weights"])


def write_weights(
    path: str | Path, model: nn.Module, recipe: Recipe, classes: Sequence[str] | None, outcome: Mapping[str, Any]
) -> None:
    """Write a trained model with all that is needed to use it, in timm and transformers too.

    Args:
        path: ends in .safetensors.
        model: a ConViT, without the drop rates, which belong to the recipe; or a model of another library, which is
            written as that library's state dict.
        recipe: how it was trained.
        classes: names in index order, or None.
        outcome: the line of the run's log that belongs to these weights.

    Raises:
        OSError: the file cannot be written.
    """
    dtype, start = dtype_of(recipe.run.export), recipe.model.weights
    preprocessing = recipe.augment.preprocessing().to_dict()
    del preprocessing["input_size"]  # which is the model's
    how = "trained from scratch" if start is None else f"fine-tuned from {Path(start).name}"
    metadata = {
        "architecture": recipe.model.architecture,
        **({"classes": list(classes)} if classes else {}),
        **preprocessing,
        "trained_on": recipe.data.name,
        "license": recipe.data.terms,
        "origin": f"{how} with `convit train`, recipe {recipe.name}",
        "recipe": recipe.model_dump(mode="json"),
        "outcome": dict(outcome),
    }
    if isinstance(model, ConViT):
        schedule = recipe.schedule
        if schedule.final_img_size is not None and outcome.get("epoch", 0) > schedule.early_epochs:
            model.set_input_size(schedule.final_img_size)
        config = model.config
        plain = inference_config({"config": config.to_dict()})
        size = [config.in_chans, config.image_height, config.image_width]
        save_weights(path, model, {"config": plain.to_dict(), "input_size": size, **metadata}, dtype=dtype)
        accompany(Path(path))
        return
    write_tensors(Path(path), tensors_to_write(model, dtype), {"recipe": json.dumps(metadata)})
