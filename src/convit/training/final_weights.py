"""The weights that a run ends with: the moving average, and those of the best epoch."""

from __future__ import annotations

from math import inf
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from convit.output.json_lines import epoch_score


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


class BestWeights(Callback):
    """Keeps the weights of the epoch with the best `epoch_score`, as they were validated: averaged, where they are.

    Must stand before `MovingAverage` among the callbacks, which takes the average out again after validation.
    """

    def __init__(self) -> None:
        self.score: tuple[float, float, int] = (-1.0, -inf, 0)
        self.weights: dict[str, Tensor] = {}

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
            self.score, self.weights = score, state_copy(model)

    def state_dict(self) -> dict[str, Any]:
        """The best weights so far, their top-1 in percent, their validation loss and their epoch."""
        return {"top1": self.score[0], "loss": -self.score[1], "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.score = state_dict["top1"], -state_dict.get("loss", inf), state_dict["epoch"]
        self.weights = dict(state_dict["weights"])


def state_copy(model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of a model's state on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
