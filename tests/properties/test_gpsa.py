"""What gated positional self-attention promises for any weights and any grid."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convit.model import GatedPositionalSelfAttention, resample_position_embedding
from convit.model.positional import apply_axis_attention, axis_attention

sides = st.integers(min_value=1, max_value=9)
settings.register_profile("steady", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("steady")


def _layer(heads: int = 4) -> GatedPositionalSelfAttention:
    layer = GatedPositionalSelfAttention(8 * heads, heads).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


@given(height=sides, width=sides)
def test_rows_sum_to_one(height: int, width: int) -> None:
    layer = _layer()
    matrix = layer.attention_matrix(torch.randn(2, height * width, 32, dtype=torch.float64), (height, width))
    assert matrix.min() >= 0
    torch.testing.assert_close(matrix.sum(-1), torch.ones(2, 4, height * width, dtype=torch.float64))


@given(height=sides, width=sides)
def test_position_attention_is_the_product_of_its_factors(height: int, width: int) -> None:
    layer = _layer()
    rows, columns = layer.position_factors((height, width))
    product = torch.einsum("hab,hcd->hacbd", rows, columns).flatten(3).flatten(1, 2)
    whole = layer.position_attention((height, width))
    torch.testing.assert_close(product, whole)
    value = torch.randn(3, 4, height * width, 8, dtype=torch.float64)
    torch.testing.assert_close(apply_axis_attention(value, rows, columns), whole @ value)


@given(height=sides, width=sides)
def test_the_fast_form_is_the_matrix_form(height: int, width: int) -> None:
    layer = _layer()
    x = torch.randn(2, height * width, 32, dtype=torch.float64)
    fast = layer(x, (height, width))
    layer.plain = True
    torch.testing.assert_close(fast, layer(x, (height, width)))


@pytest.mark.parametrize(("value", "share"), [(-1e4, 0.0), (1e4, 1.0)])
def test_saturated_gates_choose_one_half_and_stay_finite(value: float, share: float) -> None:
    layer = _layer()
    with torch.no_grad():
        layer.gating_param.fill_(value)
    x = torch.randn(1, 12, 32, dtype=torch.float64)
    assert torch.equal(layer.gate, torch.full((4,), share, dtype=torch.float64))
    position = layer.position_attention((3, 4))
    matrix = layer.attention_matrix(x, (3, 4))[0]
    assert torch.equal(matrix, position) == (share == 1.0)
    layer(x, (3, 4)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters() if p.grad is not None)


@pytest.mark.parametrize("heads", [1, 4, 9, 16])
def test_heads_start_as_a_convolution(heads: int) -> None:
    layer = GatedPositionalSelfAttention(8 * heads, heads, locality_strength=8.0)
    layer.initialize_locality()
    kernel = math.isqrt(heads)
    center = (kernel - 1) / 2 if kernel % 2 == 0 else kernel // 2
    attention = layer.position_attention((9, 9)).detach()
    center_query = attention.unflatten(1, (9, 9))[:, 4, 4]
    grid = torch.arange(9.0)
    for head in range(heads):
        row = (center_query[head].unflatten(0, (9, 9)).sum(1) * grid).sum() - 4
        column = (center_query[head].unflatten(0, (9, 9)).sum(0) * grid).sum() - 4
        assert row == pytest.approx(head % kernel - center, abs=1e-3)
        assert column == pytest.approx(head // kernel - center, abs=1e-3)
    assert torch.equal(layer.v.weight, torch.eye(8 * heads))
    torch.testing.assert_close(layer.gate, torch.sigmoid(torch.ones(heads)))


def test_factors_are_computed_in_fp32_for_bf16_weights() -> None:
    weights = torch.randn(3, 4)
    exact = axis_attention(*weights.bfloat16().double(), 40)
    rounded = axis_attention(*weights.bfloat16(), 40)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded.double(), exact, atol=1e-5, rtol=1e-4)


@given(height=sides, width=sides)
def test_constant_embeddings_stay_constant_on_any_grid(height: int, width: int) -> None:
    embedding = torch.full((1, 12, 5), 0.25)
    stretched = resample_position_embedding(embedding, (3, 4), (height, width))
    torch.testing.assert_close(stretched, torch.full((1, height * width, 5), 0.25))


def test_embeddings_are_resampled_as_timm_resamples_others() -> None:
    from timm.layers import resample_abs_pos_embed

    embedding = torch.randn(1, 196, 6)
    expected = resample_abs_pos_embed(embedding, [7, 28], old_size=[14, 14], num_prefix_tokens=0)
    torch.testing.assert_close(resample_position_embedding(embedding, (14, 14), (7, 28)), expected)
    assert resample_position_embedding(embedding, (14, 14), (14, 14)) is embedding
    with pytest.raises(ValueError, match="196 patches is not one of a 7 x 7 grid"):
        resample_position_embedding(embedding, (7, 7), (14, 14))


def test_far_places_get_no_subnormal_weights() -> None:
    # they make the product with the factors several times slower: exp(-100) is subnormal in fp32
    weights = torch.tensor([[0.0], [-1.0], [0.0]])
    attention = axis_attention(*weights, 20)
    assert ((attention == 0) | (attention >= torch.finfo(torch.float32).tiny)).all()
    assert not attention[0, 0, 10:].any()
    torch.testing.assert_close(attention.sum(-1), torch.ones(1, 20))
