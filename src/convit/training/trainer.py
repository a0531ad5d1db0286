"""Lightning's loaders and trainer for a recipe: processes, precision, loggers, and no advice on deliberate settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping as LightningEarlyStopping
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from convit.data.sampling import EpochSampler, ResumableLoader, StepSharding
from convit.data.streams import ShardSequence, ShardStream, StreamSource
from convit.images.limits import share_in_flight
from convit.output.console import quiet_loggers
from convit.training.recipe import Recipe
from convit.training.splits import Split, steps_per_epoch

VALIDATION_BATCH = 256
WORTH_WORKERS = 2000  # validation images from which starting workers pays


class RecipeData(LightningDataModule):
    """Loaders for the training and validation images of a run."""

    def __init__(self, split: Split, recipe: Recipe) -> None:
        super().__init__()
        self.split, self.recipe = split, recipe

    @cached_property
    def _count_together(self) -> Callable[[int], None] | None:
        return share_in_flight() if self.recipe.data.workers else None

    def train_dataloader(self) -> ResumableLoader:
        """Shuffled, augmented batches; the last incomplete one of an epoch is left out."""
        recipe, source = self.recipe, self.split.train
        assert self.trainer is not None
        sharding, workers = sharding_of(self.trainer, recipe), recipe.data.workers
        options: dict[str, Any] = {
            "workers": workers,
            "begin_epoch": self.split.begin_epoch,
            "pin_memory": self.trainer.strategy.root_device.type == "cuda",
            "worker_init_fn": self._count_together,
        }
        if isinstance(source, StreamSource):
            stream = ShardStream(
                source,
                batch_size=sharding.batch_size,
                seed=recipe.seed,
                buffer=recipe.data.shuffle_buffer,
                rank=sharding.rank,
                world_size=sharding.world_size,
            )
            return ResumableLoader(stream, batches=steps_per_epoch(recipe, self.split) * sharding.parts, **options)
        sampler = EpochSampler(
            len(source),
            seed=recipe.seed,
            sharding=sharding,
            repeats=recipe.augment.repeats,
            balance=[source.label(index) for index in range(len(source))] if recipe.data.balanced else None,
        )
        return ResumableLoader(source, sampler, **options)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """The validation images in order; every process takes its share. Empty where there are none."""
        assert self.trainer is not None
        source, workers = self.split.validation, self.recipe.data.workers
        sharding = sharding_of(self.trainer, self.recipe)
        size = min(sharding.batch_size, VALIDATION_BATCH)
        if source is None:
            return []
        if isinstance(source, StreamSource):
            images = ShardSequence(source, rank=sharding.rank, world_size=sharding.world_size)
            return [DataLoader(images, size, num_workers=min(workers, 1), worker_init_fn=self._count_together)]
        mine = range(sharding.rank, len(source), sharding.world_size)
        workers = workers if len(mine) > WORTH_WORKERS else 0
        return [DataLoader(source, size, sampler=mine, num_workers=workers, worker_init_fn=self._count_together)]


def sharding_of(trainer: Trainer, recipe: Recipe) -> StepSharding:
    """How a step's images are shared out among the processes of a run that has begun; ValueError where they cannot."""
    batch_size, parts = recipe.run.batch_size, trainer.accumulate_grad_batches
    return StepSharding(batch_size, parts, trainer.global_rank, trainer.world_size)


class EarlyStopping(LightningEarlyStopping):  # whose name checkpoints hold
    """Lightning's, which a resumed run obeys at once where it had stopped, and with its own recipe's patience."""

    def __init__(self, patience: int) -> None:
        # in validation, so that the epoch's checkpoint holds what came of it
        super().__init__("val_top1", mode="max", patience=patience, check_on_train_epoch_end=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not go on where there is no patience left."""
        trainer.should_stop = self.wait_count >= self.patience


LIGHTNING_PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def build_trainer(recipe: Recipe, output: Path, callbacks: Sequence[Callback]) -> Trainer:
    """The trainer of a run.

    Several nodes are started by torchrun or SLURM, which Lightning recognizes; under SLURM a run that is told to make
    way (SIGUSR1) saves itself and queues again. The recipe's precision must not be "auto".

    Raises:
        ImportError: a logger that the recipe asks for is not installed.
    """
    run, schedule = recipe.run, recipe.schedule
    stopping = [] if schedule.patience is None else [EarlyStopping(schedule.patience)]
    return Trainer(
        accelerator="auto",
        devices=run.devices,
        num_nodes=run.nodes,
        strategy=run.strategy,
        precision=LIGHTNING_PRECISIONS[run.precision],
        max_epochs=schedule.total_epochs,
        gradient_clip_val=recipe.optimizer.clip_norm,
        callbacks=[*stopping, *callbacks],
        logger=choose_loggers(recipe, output),
        log_every_n_steps=50,
        enable_checkpointing=False,
        enable_progress_bar=any(isinstance(each, ProgressBar) for each in callbacks),
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=output,
    )


def choose_loggers(recipe: Recipe, output: Path) -> list[Logger]:
    """The loggers of a run but the CSV, which is the log's own; TensorBoard is left out where it is not installed.

    Raises:
        ImportError: W&B is asked for and not installed.
    """
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    loggers: list[Logger] = []
    if "tensorboard" in recipe.run.loggers:
        with suppress(ModuleNotFoundError):  # TensorBoard is an extra
            loggers.append(TensorBoardLogger(output, name="tensorboard", version=""))
    if "wandb" in recipe.run.loggers:
        try:
            loggers.append(WandbLogger(name=recipe.name, project="convit", save_dir=output))
        except ModuleNotFoundError as error:
            raise ImportError(
                "run.loggers names wandb, which is not installed; install it with: pip install wandb"
            ) from error
    return loggers


@contextmanager
def quiet_libraries() -> Generator[None]:
    """Keep back Lightning's advice on settings that are chosen here on purpose."""
    with quiet_loggers("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        yield
