"""Two processes compute what one does with all the images of a step, and so do two parts of a step."""

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from convit.output.text import read_lines
from convit.training.run import run_recipe
from tests.training.small import TEXT, small_recipe, write_data

# Adam divides by a gradient's size: with its usual epsilon it makes whole steps of the rounding in gradients that are
# zero in truth, such as those of pos_proj's biases.
STEADY = ("optimizer.eps=1e-3", "augment.repeats=2")


def _command(folder: Path, output: str, *changes: str) -> dict[str, torch.Tensor]:
    (folder / "small.yaml").write_text(TEXT)
    sets = [part for change in (*STEADY, *changes) for part in ("--set", change)]
    command = [sys.executable, "-m", "convit", "train", "small.yaml", "--data", "data", "--output", output, "-q", *sets]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return safetensors.torch.load_file(folder / output / "weights.safetensors")


def _alone(folder: Path, *changes: str) -> dict[str, torch.Tensor]:
    recipe = small_recipe(folder, *STEADY, *changes)
    return safetensors.torch.load_file(run_recipe(recipe, folder / "data", folder / "alone", quiet=True))


@pytest.mark.slow
def test_two_processes_equal_one_with_the_doubled_batch(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    alone = _alone(tmp_path)
    shared = _command(tmp_path, "shared", "run.devices=2", "run.strategy=ddp")
    for name, expected in alone.items():
        torch.testing.assert_close(
            shared[name], expected, rtol=1e-4, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_a_step_in_two_parts_equals_a_whole_one(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    alone = _alone(tmp_path)
    recipe = small_recipe(tmp_path, *STEADY, "run.accumulate=2")
    parts = safetensors.torch.load_file(run_recipe(recipe, tmp_path / "data", tmp_path / "parts", quiet=True))
    for name, expected in alone.items():
        torch.testing.assert_close(parts[name], expected, rtol=1e-4, atol=2e-6, msg=lambda text, n=name: f"{n}: {text}")
    for line in read_lines(tmp_path / "parts" / "log.jsonl"):
        assert line["images_per_second"] * line["step_seconds"] == pytest.approx(recipe.run.batch_size, rel=0.1)


def test_the_order_of_images_matters(tmp_path: Path) -> None:
    """The comparison above would notice if the processes saw other images, or mixed them otherwise."""
    write_data(tmp_path / "data")
    alone = _alone(tmp_path)
    recipe = small_recipe(tmp_path, *STEADY, "seed=2")
    other = safetensors.torch.load_file(run_recipe(recipe, tmp_path / "data", tmp_path / "other", quiet=True))
    name = "blocks.0.mlp.fc1.weight"
    assert not torch.allclose(other[name], alone[name], rtol=1e-4, atol=2e-6)
