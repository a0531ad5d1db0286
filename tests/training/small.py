"""A recipe and data so small that whole runs take a second."""

import sys
from pathlib import Path

import safetensors.torch
from torch import Tensor

from convit.training.recipe import Recipe
from convit.training.recipe_io import read_recipe
from tests.data.making import write_shard

TEXT = """
name: small
seed: 1
model:
  architecture: convit_nano_patch4_32
  options:
    {img_size: 8, num_classes: 2, num_heads: 4, embed_dim: 4, depth: 2, local_up_to_layer: 1, drop_path_rate: 0.2}
data: {name: dots, terms: free, train: "train-{0..1}.tar", held_out: 8, decode: once, workers: 0}
augment: {crop_pct: 1.0, crop: padded, padding: 1}
mixing: {mixup: 0.8, cutmix: 1.0, probability: 0.5}
optimizer: {lr: 0.1, clip_norm: 1.0}
schedule: {epochs: 2, warmup_epochs: 0.5, cooldown_epochs: 1}
ema: {decay: 0.9}
run: {batch_size: 8, precision: fp32, devices: 1, keep: 2, loggers: [csv], attention_images: 0}
"""


def write_data(folder: Path) -> Path:
    """Two shards of twenty images and their class names."""
    folder.mkdir()
    for shard in range(2):
        write_shard(folder / f"train-{shard}.tar", range(20 * shard, 20 * shard + 20))
    (folder / "classes.json").write_text('["even", "odd"]')
    return folder


def settings(*changes: str) -> list[str]:
    """Changes of a recipe as the command line takes them."""
    return [part for change in changes for part in ("--set", change)]


def command(folder: Path, output: str, *changes: str) -> list[str]:
    """The command, to be run in a folder with `data`, that trains by the recipe with some values changed."""
    (folder / "small.yaml").write_text(TEXT)
    places = ["small.yaml", "--data", "data", "--output", output]
    return [sys.executable, "-m", "convit", "train", *places, "--quiet", *settings(*changes)]


def weights_of(run: Path) -> dict[str, Tensor]:
    """The weights that a run left in its folder."""
    return safetensors.torch.load_file(run / "weights.safetensors")


def small_recipe(folder: Path, *changes: str) -> Recipe:
    """The recipe with some values changed."""
    file = folder / "small.yaml"
    file.write_text(TEXT)
    return read_recipe(file, changes)
