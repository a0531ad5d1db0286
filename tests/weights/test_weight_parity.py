"""The same files and the same calls in timm 1.0.31 and here: names, shapes, logits, and adapted weights."""

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models import adapt_input_conv

from convit.weights import create_model, load_weights
from convit.weights.adapt import adapt_input_channels
from tests.shaken import shake


def shaken(model, seed=0):
    shake(model, seed)
    return model.eval()


# The 14 x 14 grid of the published models in a smaller one, since every test here builds it twice.
SMALL = {"embed_dim": 16, "depth": 3, "local_up_to_layer": 2}


@pytest.fixture(scope="module")
def theirs():
    return shaken(timm.create_model("convit_tiny", **SMALL))


@pytest.fixture(scope="module")
def authors_file(theirs, tmp_path_factory):
    """A bare state dict in PyTorch's own format, as the authors released theirs."""
    path = tmp_path_factory.mktemp("authors") / "convit_tiny.pth"
    torch.save(theirs.state_dict(), path)
    return path


def images(channels=3, height=224, width=224):
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def assert_same(ours, theirs, batch):
    expected, given = theirs(batch), ours.eval()(batch)
    assert given.shape == expected.shape
    assert expected.std() > 0.1
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


def test_state_dicts_interchange_both_ways():
    ours, theirs = create_model("convit_tiny"), shaken(timm.create_model("convit_tiny"))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert_same(ours, theirs, images())
    theirs.load_state_dict(shaken(ours, seed=1).state_dict(), strict=True)
    assert_same(ours, theirs, images())


def test_authors_file_loads_as_it_is(theirs, authors_file):
    assert load_weights(authors_file)[0].keys() == theirs.state_dict().keys()
    assert_same(create_model("convit_tiny", checkpoint_path=authors_file, **SMALL), theirs, images())


@pytest.mark.parametrize(
    "changes", [{"num_classes": 0}, {"in_chans": 1}, {"in_chans": 4}, {"in_chans": 7, "num_classes": 0}]
)
def test_adapted_as_timm_adapts(authors_file, changes):
    pretrained = {**SMALL, "pretrained": True, "pretrained_cfg_overlay": {"file": str(authors_file)}}
    theirs = timm.create_model("convit_tiny", **pretrained, **changes).eval()
    ours = create_model("convit_tiny", checkpoint_path=authors_file, **SMALL, **changes)
    assert_same(ours, theirs, images(changes.get("in_chans", 3)))


def test_fresh_head_for_other_classes(authors_file):
    theirs = timm.create_model(
        "convit_tiny", pretrained=True, pretrained_cfg_overlay={"file": str(authors_file)}, num_classes=5, **SMALL
    ).eval()
    ours = create_model("convit_tiny", checkpoint_path=authors_file, **SMALL, num_classes=5).eval()
    assert (ours.head.weight.shape, ours.head.weight.std() < 0.03, ours.head.bias.any()) == ((5, 64), True, False)
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features(images()), pre_logits=True)
        given = ours.forward_head(ours.forward_features(images()), pre_logits=True)
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 8])
def test_input_convolution_as_timm_adapts_it(channels, dtype):
    weight = torch.randn(8, 3, 4, 4).to(dtype)
    ours, theirs = adapt_input_channels(weight, channels), adapt_input_conv(channels, weight)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs, rtol=1e-6 if dtype == torch.float32 else 1e-3, atol=1e-6)


@pytest.mark.parametrize("size", [(112, 448), (256, 192), (384, 384)])
def test_position_embedding_is_resampled_as_timm_resizes_those_of_others(theirs, authors_file, size):
    ours = create_model("convit_tiny", checkpoint_path=authors_file, **SMALL, img_size=size)
    expected = resample_abs_pos_embed(theirs.pos_embed, [size[0] // 16, size[1] // 16], [14, 14], num_prefix_tokens=0)
    torch.testing.assert_close(ours.pos_embed, expected)


def test_grid_of_7_x_28_is_not_the_grid_of_14_x_14(theirs, authors_file):
    """196 patches either way: timm loads the file without a word, and every patch gets another one's position."""
    theirs_wide = timm.create_model(
        "convit_tiny", pretrained=True, pretrained_cfg_overlay={"file": str(authors_file)}, img_size=(112, 448), **SMALL
    )
    assert torch.equal(theirs_wide.pos_embed, theirs.pos_embed)
    ours = create_model("convit_tiny", checkpoint_path=authors_file, **SMALL, img_size=(112, 448)).eval()
    assert ours.pos_embed.shape == theirs.pos_embed.shape
    assert not torch.allclose(ours.pos_embed, theirs.pos_embed)
    square = create_model("convit_tiny", checkpoint_path=authors_file, **SMALL).eval()
    batch = images(3, 112, 448)
    with torch.no_grad():
        torch.testing.assert_close(ours(batch), square(batch))  # resampled on load or on the fly
