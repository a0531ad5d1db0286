"""Keeping the weights of the best epoch."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from convit.training.sharding import whole_state


class BestWeights(Callback):
    """Keeps the weights with the best top-1 on the validation images, as they were validated: averaged, where they are.

    Must stand before `WeightAveraging` among the callbacks, which takes the average out again after validation.
    """

    def __init__(self) -> None:
        self.top1 = -1.0
        self.epoch = 0
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the weights where they are better than all before."""
        top1 = float(trainer.callback_metrics["val_top1"])
        if top1 > self.top1:
            self.top1, self.epoch = top1, trainer.current_epoch + 1
            model: Any = pl_module.model
            self.weights = whole_state(model)

    def state_dict(self) -> dict[str, Any]:
        """The best weights so far, their top-1 in percent and their epoch."""
        return {"top1": self.top1, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.top1, self.epoch, self.weights = state_dict["top1"], state_dict["epoch"], dict(state_dict["weights"])
