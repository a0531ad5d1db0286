"""Two processes compute what one does with all the images of a step, and so do two parts of a step."""

import subprocess
from pathlib import Path

import pytest
import torch

from convit.output.text import read_lines
from convit.training.run import run_recipe
from tests.training.small import command, small_recipe, weights_of, write_data

# Adam divides by a gradient's size: with its usual epsilon it makes whole steps of the rounding in gradients that are
# zero in truth, such as those of pos_proj's biases.
STEADY = ("optimizer.eps=1e-3", "augment.repeats=2")


def _train(folder: Path, output: str, *changes: str) -> dict[str, torch.Tensor]:
    recipe = small_recipe(folder, *STEADY, *changes)
    return weights_of(run_recipe(recipe, folder / "data", folder / output, quiet=True).parent)


def _same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    shared = command(tmp_path, "shared", *STEADY, "run.devices=2", "run.strategy=ddp")
    subprocess.run(shared, cwd=tmp_path, timeout=300, check=True)
    _same(weights_of(tmp_path / "shared"), _train(tmp_path, "alone"))


def test_a_step_in_two_parts_equals_a_whole_one(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    _same(_train(tmp_path, "parts", "run.accumulate=2"), _train(tmp_path, "alone"))
    for line in read_lines(tmp_path / "parts" / "log.jsonl"):
        assert line["images_per_second"] * line["step_seconds"] == pytest.approx(8, rel=0.1)


def test_the_order_of_images_matters(tmp_path: Path) -> None:
    """The comparison above would notice if the processes saw other images, or mixed them otherwise."""
    write_data(tmp_path / "data")
    name = "blocks.0.mlp.fc1.weight"
    alone, other = _train(tmp_path, "alone")[name], _train(tmp_path, "other", "seed=2")[name]
    assert not torch.allclose(other, alone, rtol=1e-4, atol=2e-6)
