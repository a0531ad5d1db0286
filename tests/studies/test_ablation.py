"""The rows of Table 3: what each changes in the model that is trained."""

import math
from pathlib import Path

import pytest
import torch

from convit.training.models import build_model
from convit.training.recipe import Recipe
from studies.ablation import PAPER, variants
from tests.training.small import small_recipe


def test_each_row_changes_what_it_says(tmp_path: Path) -> None:
    rows = variants(small_recipe(tmp_path, "model.options.depth=3", "model.options.local_up_to_layer=2"))
    assert list(rows) == list(PAPER)
    models = {row: build_model(recipe) for row, recipe in rows.items()}
    frozen = {
        row: {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        for row, model in models.items()
    }
    gates = {"blocks.0.attn.gating_param", "blocks.1.attn.gating_param"}
    attention = {
        name for name, _ in models["ConViT"].named_parameters() if name.startswith(("blocks.0.attn.", "blocks.1.attn."))
    }
    assert gates < attention
    assert frozen == {
        "ConViT": set(),
        "gates frozen at 0.5": gates,
        "no convolutional init": set(),
        "neither": gates,
        "DeiT": set(),
        "GPSA frozen, with init": attention,
        "GPSA frozen, without init": attention,
    }
    start = {
        row: [float(torch.sigmoid(value.detach()).mean()) for name, value in model.named_parameters() if name in gates]
        for row, model in models.items()
    }
    whole = pytest.approx([1 / (1 + math.exp(-1))] * 2)
    half = pytest.approx([0.5, 0.5])
    assert start["ConViT"] == start["no convolutional init"] == start["GPSA frozen, with init"] == whole
    assert start["gates frozen at 0.5"] == start["neither"] == half
    assert start["DeiT"] == []


def test_the_convolutional_start_is_left_out_where_it_says(tmp_path: Path) -> None:
    rows = variants(small_recipe(tmp_path))
    for row in ("ConViT", "gates frozen at 0.5", "GPSA frozen, with init"):
        assert torch.equal(_values(rows, row), torch.eye(16)), row
    for row in ("no convolutional init", "neither", "GPSA frozen, without init"):
        assert float(_values(rows, row).abs().max()) < 0.2, row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.architecture=timm:deit_tiny_patch16_224", "the recipe's model is timm:deit_tiny_patch16_224; take a"),
        ("model.weights=x.safetensors", "but the recipe's model is convit_nano_patch4_32 from x.safetensors; take a"),
        ("model.options.local_up_to_layer=0", "has no GPSA layer; set model.options.local_up_to_layer above 0"),
    ],
)
def test_recipes_without_a_fresh_convit_are_refused(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variants(small_recipe(tmp_path, change))


def _values(rows: dict[str, Recipe], row: str) -> torch.Tensor:
    return build_model(rows[row]).get_parameter("blocks.0.attn.v.weight").detach()
