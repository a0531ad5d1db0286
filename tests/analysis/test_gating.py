"""Gates and learned centers: what a fresh layer has, what a changed one has, and what has none."""

import pytest
import torch

from convit.analysis import gates, locality_centers
from convit.model import ConViT, ConViTConfig

NINE = ConViTConfig(img_size=16, embed_dim=2, num_heads=9, depth=4, local_up_to_layer=3, num_classes=2)


def test_fresh_gates_are_the_sigmoid_of_1() -> None:
    found = gates(ConViT(NINE))
    assert found.shape == (3, 9)
    torch.testing.assert_close(found, torch.sigmoid(torch.ones(3, 9)))
    assert not found.requires_grad


def test_gates_follow_their_layer_and_head() -> None:
    model = ConViT(NINE)
    values = torch.randn(3, 9)
    with torch.no_grad():
        for layer, row in enumerate(values):
            model.blocks[layer].attn.gating_param.copy_(row)
    torch.testing.assert_close(gates(model), torch.sigmoid(values))


@pytest.mark.parametrize("strength", [0.5, 1.0, 10.0])
def test_nine_fresh_heads_sit_on_a_3_x_3_kernel(strength: float) -> None:
    centers = locality_centers(ConViT(NINE.replace(locality_strength=strength)))
    kernel = torch.tensor([(row, column) for column in (-1.0, 0.0, 1.0) for row in (-1.0, 0.0, 1.0)])
    torch.testing.assert_close(centers, kernel.expand(3, 9, 2))
    assert not centers.requires_grad


def test_the_center_is_where_position_attention_is_highest() -> None:
    model = ConViT(NINE)
    layer = model.blocks[1].attn
    with torch.no_grad():
        layer.pos_proj.weight[4] = torch.tensor([6.0, -4.0, -1.0])
    row, column = locality_centers(model)[1, 4].tolist()
    assert (row, column) == (-2.0, 3.0)
    rows, columns = layer.position_factors((9, 9))
    assert rows[4, 4].argmax() == 4 + row
    assert columns[4, 4].argmax() == 4 + column


@pytest.mark.parametrize("quadratic", [0.0, 1.0])
def test_attention_without_a_center_is_nan(quadratic: float) -> None:
    model = ConViT(NINE)
    with torch.no_grad():
        model.blocks[0].attn.pos_proj.weight[2, 2] = quadratic
    missing = locality_centers(model).isnan().all(dim=-1)
    assert missing.nonzero().tolist() == [[0, 2]]


@pytest.mark.parametrize("function", [gates, locality_centers])
def test_a_model_without_gpsa_is_refused(function: object) -> None:
    model = ConViT(NINE.replace(local_up_to_layer=0))
    with pytest.raises(ValueError, match=r"no GPSA layer.*local_up_to_layer of at least 1"):
        function(model)
