"""Counts against the public tables, and against what identity by identity should save."""

import pytest
import torch

from convit.model import VARIANTS, ConViT, ConViTConfig, count_operations

TABLES = {  # GMACs, activations in millions: timm's result tables
    "convit_tiny": (1.26, 7.94),
    "convit_small": (5.76, 17.87),
    "convit_base": (17.52, 31.77),
}


def _without_data(name: str) -> ConViT:
    with torch.device("meta"):
        return ConViT(VARIANTS[name].config, initialize=False)


@pytest.mark.parametrize("name", TABLES)
def test_the_plain_twin_counts_what_the_tables_say(name: str) -> None:
    counts = count_operations(_without_data(name))
    assert counts.gmacs == pytest.approx(TABLES[name][0], rel=0.007)
    assert counts.activations / 1e6 == pytest.approx(TABLES[name][1], abs=0.005)


def test_the_normal_path_of_base_executes_less() -> None:
    model = _without_data("convit_base")
    assert round(count_operations(model, form="plain").gmacs, 1) == 17.5
    assert round(count_operations(model, form="fused").gmacs, 1) == 16.3
    assert not model.plain


def test_position_attention_costs_the_sum_of_the_sides() -> None:
    config = ConViTConfig(
        img_size=64, patch_size=4, depth=2, local_up_to_layer=1, num_heads=4, embed_dim=8, num_classes=0
    )
    model = ConViT(config)
    tokens, dim = 256, 32
    patches = tokens * dim * 48
    local = tokens * dim * dim * 12 + 2 * tokens * tokens * dim + tokens * (16 + 16) * dim
    last = (tokens + 1) * dim * dim * 2 + dim * dim * 10 + 2 * (tokens + 1) * dim
    assert count_operations(model, form="fused").macs == patches + local + last
    assert count_operations(model, img_size=(64, 128), form="fused").macs > count_operations(model, form="fused").macs
