"""A masked position embedding and forced gates: what they change, and that they leave no trace."""

import pytest
import torch

from convit.analysis import attention_maps, forced_gates, gates, masked_position_embedding
from convit.model import ConViT, ConViTConfig
from tests.shaken import shake

SMALL = ConViTConfig(img_size=12, patch_size=4, embed_dim=4, num_heads=4, depth=4, local_up_to_layer=3, num_classes=3)


def _model(**changes: object) -> ConViT:
    model = ConViT(SMALL.replace(**changes)).eval()
    shake(model)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gate", [0, 1])
def test_gates_are_forced_in_the_first_layers_alone(gate: int, dtype: torch.dtype) -> None:
    model, images = _model().to(dtype), torch.randn(1, 3, 12, 12, dtype=dtype)
    before, state = gates(model), {name: value.clone() for name, value in model.state_dict().items()}
    with forced_gates(model, 2, gate):
        found = gates(model)
        assert (found[:2] == gate).all()
        assert torch.equal(found[2], before[2])
        maps = next(attention_maps(model, images))
        assert torch.equal(maps.blended, maps.position.expand_as(maps.blended) if gate else maps.content)
        assert model(images).isfinite().all()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_a_masked_position_embedding_is_a_model_without_one() -> None:
    model, images = _model(), torch.randn(2, 3, 12, 20)
    without = _model(use_pos_embed=False)
    without.load_state_dict({name: value for name, value in model.state_dict().items() if name != "pos_embed"})
    before = model(images)
    with masked_position_embedding(model):
        torch.testing.assert_close(model(images), without(images))
    assert torch.equal(model(images), before)
    assert not torch.allclose(before, without(images))


def test_an_error_inside_gives_everything_back() -> None:
    model = _model()
    before = model.pos_embed.detach().clone()
    with pytest.raises(KeyError), masked_position_embedding(model), forced_gates(model, 3, 1):
        raise KeyError
    assert torch.equal(model.pos_embed, before)
    assert gates(model).max() < 1


def test_what_cannot_be_changed_is_refused() -> None:
    with (
        pytest.raises(ValueError, match="no position embedding"),
        masked_position_embedding(_model(use_pos_embed=False)),
    ):
        pass
    for layers in (0, 4):
        message = f"{layers} layers are to be forced, but must be 1 to 3"
        with pytest.raises(ValueError, match=message), forced_gates(_model(), layers, 1):
            pass
    with pytest.raises(ValueError, match="must be 1"), forced_gates(_model(), 1, 0.5):
        pass
