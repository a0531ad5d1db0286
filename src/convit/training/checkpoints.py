"""Checkpoints that are whole or absent: written under a temporary name, then renamed; and how a run stops."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from convit.output.console import STOPPING
from convit.output.text import first_line
from convit.training.places import CHECKPOINTS, last_checkpoint
from convit.training.recipe import RunRecipe
from convit.training.run_folder import IDENTITY_KEY
from convit.training.task import ClassificationTask, DivergedError


class RunStopped(SystemExit):
    """A signal ended the run after it had written a checkpoint, `step` steps done; the code is 128 + `signal`."""

    def __init__(self, number: int, step: int, *, is_first_process: bool = True) -> None:
        # Lightning kills the first process, and what it still has to say, where another one fails
        super().__init__(128 + number if is_first_process else 0)
        self.signal, self.step = number, step


class Checkpoints(Callback):
    """Writes a checkpoint every some minutes or steps, after every epoch and when a signal ends it; keeps the last few.

    A signal stops the run after the step (or the epoch, where it is being validated); a second Ctrl-C at once.
    Checkpoints go into `checkpoints/` of the run's folder; `identity` is what `check_identity` compares on a resume.
    """

    def __init__(self, folder: str | Path, identity: Mapping[str, Any], settings: RunRecipe) -> None:
        self.folder, self.identity = Path(folder, "checkpoints"), dict(identity)
        self.seconds, self.steps, self.keep = 60 * settings.checkpoint_minutes, settings.checkpoint_steps, settings.keep
        self.written = time.monotonic()
        self.last_step = 0
        self.signal = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove what a killed process had not finished writing."""
        for file in self.folder.glob("*.part") if trainer.is_global_zero else ():
            file.unlink()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over from Lightning, which puts the earlier handlers back when training ends."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, *STOPPING):
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` has it
                    signal.signal(number, self._take_note)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write when it is time, between two steps; the first process decides for all."""
        if trainer.global_step == self.last_step:
            return  # in the middle of a step that is computed in parts
        self.last_step = trainer.global_step
        if batch_idx + 1 == trainer.num_training_batches:
            return  # the epoch's own checkpoint follows
        due = time.monotonic() - self.written >= self.seconds
        due = due or (self.steps is not None and trainer.global_step % self.steps == 0)
        due, stop = self._agree(trainer, due)
        if due or stop:
            self.write(trainer)
        self._stop(trainer, stop)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        self.write(trainer)
        self._stop(trainer, self._agree(trainer, True)[1])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Say whose checkpoint it is."""
        checkpoint[IDENTITY_KEY] = self.identity

    def write(self, trainer: Trainer) -> None:
        """Write a checkpoint and remove those that are one too many.

        Raises:
            DivergedError: the loss or a weight is no longer finite; earlier checkpoints stay as they are.
            OSError: the disk is full or not writable; earlier checkpoints stay as they are.
        """
        _check_finite(trainer)
        target = self.folder / f"step-{trainer.global_step:09d}.ckpt"
        temporary = target.with_suffix(".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(temporary)
            if trainer.is_global_zero:
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())  # the bytes are on the disk before the name is
                temporary.replace(target)
        except (OSError, RuntimeError) as error:  # PyTorch's writer turns a full disk into a RuntimeError
            last = last_checkpoint(self.folder.parent)
            stays = f"{last.name} stays as it is" if last else "there was none before it"
            raise OSError(
                f"the checkpoint {target} could not be written ({first_line(error)}); {stays}; make room and "
                f"go on with --resume"
            ) from error
        finally:
            if trainer.is_global_zero:
                temporary.unlink(missing_ok=True)
        if trainer.is_global_zero:
            for old in sorted(self.folder.glob(CHECKPOINTS))[: -self.keep]:
                old.unlink()
        self.written = time.monotonic()

    def _take_note(self, number: int, frame: Any) -> None:
        if number == self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def _agree(self, trainer: Trainer, due: bool) -> tuple[bool, int]:
        decision = due, self.signal
        return trainer.strategy.broadcast(decision) if trainer.world_size > 1 else decision

    def _stop(self, trainer: Trainer, number: int) -> None:
        if number:
            raise RunStopped(number, trainer.global_step, is_first_process=trainer.is_global_zero)


def _check_finite(trainer: Trainer) -> None:
    task = trainer.lightning_module
    assert isinstance(task, ClassificationTask)
    task.check_losses()
    bad = next((name for name, weight in task.model.named_parameters() if not weight.isfinite().all()), None)
    if bad is not None:
        raise DivergedError(
            f"the weight {bad} is not finite at step {trainer.global_step}; the last checkpoint is from before "
            f"it. Lower optimizer.lr or set optimizer.clip_norm=1, and start again"
        )
