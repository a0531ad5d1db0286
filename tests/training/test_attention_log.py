"""What a run's gates and heads leave to read, and that looking changes nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from convit.analysis import gates, nonlocality
from convit.model import ConViT, ConViTConfig
from convit.output.text import read_lines
from convit.training import epoch_log
from convit.training.epoch_log import AttentionLog, measure
from convit.training.final_weights import MovingAverage

CONFIG = ConViTConfig(
    img_size=8, patch_size=4, embed_dim=4, num_heads=4, depth=3, local_up_to_layer=2, num_classes=2, drop_path_rate=0.5
)
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]


class _Task(LightningModule):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=0.05)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        return F.cross_entropy(self.model(images), labels)


class _StopAfter(Callback):
    """A checkpoint after one epoch, an error after the next."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")
        trainer.save_checkpoint(self.file)


class _Keep(Callback):
    """What is to be logged of the weights being trained, measured by itself."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.seen = images, list[dict[str, Any]]()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seen.append(measure(pl_module.model, self.images))


def _model(**changes: Any) -> ConViT:
    torch.manual_seed(3)
    return ConViT(CONFIG.replace(**changes))


def _images(count: int) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(count))


def _fit(model: nn.Module, *callbacks: Callback, epochs: int = 3, checkpoint: Path | None = None) -> _Task:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    task, labels = _Task(model), torch.arange(16) % 2
    torch.manual_seed(5)
    trainer.fit(task, DataLoader(TensorDataset(_images(16), labels), 8), ckpt_path=checkpoint)
    return task


def _flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


def test_a_line_before_the_first_epoch_and_after_each(tmp_path: Path) -> None:
    file, images, model = tmp_path / "attention.jsonl", _images(40), _model()
    at_start = gates(model), nonlocality(model, images)
    task = _fit(model, AttentionLog(file, images))
    lines = read_lines(file)
    assert [line["epoch"] for line in lines] == [0, 1, 2, 3]
    at_end = gates(task.model), nonlocality(task.model, images)
    for line, expected in ((lines[0], at_start), (lines[3], at_end)):
        for name, rows in zip(("gates", "nonlocality"), expected, strict=True):
            assert _flat(line[name]) == pytest.approx(rows.flatten().tolist(), abs=1.1e-5)
    assert (len(lines[0]["gates"]), len(lines[0]["nonlocality"])) == (2, 3)
    assert lines[0]["gates"] != lines[3]["gates"]
    assert all(value == round(value, 5) for value in _flat(lines[3]["nonlocality"]))


def test_looking_changes_nothing(tmp_path: Path) -> None:
    alone = _fit(_model())
    end = torch.get_rng_state()
    watched = _fit(_model(), AttentionLog(tmp_path / "attention.jsonl", _images(40)))
    assert torch.equal(torch.get_rng_state(), end)
    for expected, found in zip(alone.parameters(), watched.parameters(), strict=True):
        assert torch.equal(expected, found)
        assert torch.equal(expected.grad, found.grad)
    assert all(module.training for module in watched.model.modules())


def test_a_resumed_run_replaces_what_it_does_again(tmp_path: Path) -> None:
    images = _images(4)
    _fit(_model(drop_path_rate=0.0), AttentionLog(tmp_path / "whole.jsonl", images))
    file, checkpoint = tmp_path / "cut.jsonl", tmp_path / "one.ckpt"
    with pytest.raises(RuntimeError, match="killed"):
        _fit(_model(drop_path_rate=0.0), AttentionLog(file, images), _StopAfter(checkpoint))
    assert [line["epoch"] for line in read_lines(file)] == [0, 1, 2]
    _fit(_model(drop_path_rate=0.0), AttentionLog(file, images), checkpoint=checkpoint)
    assert read_lines(file) == read_lines(tmp_path / "whole.jsonl")


def test_the_weights_are_those_being_trained_not_their_average(tmp_path: Path) -> None:
    file, images = tmp_path / "attention.jsonl", _images(4)
    averaging, kept = MovingAverage(0.9), _Keep(images)
    task = _fit(_model(), averaging, AttentionLog(file, images), kept, epochs=2)
    lines = read_lines(file)
    assert [{"epoch": number, **seen} for number, seen in enumerate(kept.seen, start=1)] == lines[1:]
    assert measure(task.model, images)["gates"] != lines[2]["gates"]  # training ends with the average


def test_images_are_measured_in_batches_of_32(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def count(model: ConViT, images: Tensor) -> Tensor:
        sizes.append(len(images))
        return nonlocality(model, images)

    monkeypatch.setattr(epoch_log, "nonlocality", count)
    measure(_model(), _images(70))
    assert sizes == [32, 32, 6]


def test_batches_weigh_by_their_size() -> None:
    model, images = _model().double(), _images(33)
    expected = nonlocality(model, images.double()).flatten().tolist()
    assert _flat(measure(model, images)["nonlocality"]) == pytest.approx(expected, abs=1e-5)


def test_without_gpsa_there_is_non_locality_alone(tmp_path: Path) -> None:
    file = tmp_path / "attention.jsonl"
    _fit(_model(local_up_to_layer=0), AttentionLog(file, _images(4)), epochs=1)
    assert [set(line) for line in read_lines(file)] == [{"epoch", "nonlocality"}] * 2


def test_other_processes_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "attention.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "is_global_zero", False)
        _fit(_model(), AttentionLog(file, _images(4)), epochs=1)
    assert not file.exists()
