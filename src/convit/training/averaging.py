"""Exponential moving average of the weights, as a Lightning callback."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from convit.training.sharding import part_of, settle, whole


class WeightAveraging(Callback):
    """Keeps an average of the trained parameters beside them; validation sees the average.

    Lightning's `EMAWeightAveraging` stores the average as the model in checkpoints and knows no warm-up;
    here a checkpoint's `state_dict` stays what is being trained, and the average is this callback's state.

    Args:
        decay: share of the average that a step keeps, in [0, 1). Early on it is smaller, (1 + steps) / (10 + steps),
            so that the random start is soon forgotten.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.average: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the weights as they are, or move the restored average to the device."""
        parameters = _parameters(pl_module)
        start = self.average or parameters
        self.average = {name: part_of(start[name], parameter) for name, parameter in parameters.items()}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Follow the weights after each optimizer step."""
        if trainer.global_step == self.steps:
            return
        self.steps = trainer.global_step
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
                list(self.average.values()),
                [parameter.detach() for parameter in _parameters(pl_module).values()],
                1 - decay,
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the average in."""
        self.swap_in(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the average out again."""
        self.swap_out(pl_module)

    def swap_in(self, module: nn.Module) -> None:
        """Give the module the average, in place; `swap_out` undoes it."""
        if not self.average:
            return
        with torch.no_grad():
            for name, parameter in _parameters(module).items():
                self._trained[name] = parameter.detach().clone()
                parameter.copy_(self.average[name])

    def swap_out(self, module: nn.Module) -> None:
        """Give the module its trained weights back, in place."""
        with torch.no_grad():
            for name, parameter in _parameters(module).items():
                if name in self._trained:
                    parameter.copy_(self._trained.pop(name))

    def state_dict(self) -> dict[str, Any]:
        """The average and its age."""
        return {"steps": self.steps, "average": {name: whole(tensor).cpu() for name, tensor in self.average.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.steps, self.average = state_dict["steps"], dict(state_dict["average"])


def _parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    settle(module)
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
