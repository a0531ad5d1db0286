"""Models by name: what each argument means, what `pretrained_cfg` says, and what a wrong call is told."""

import pytest
import torch
from torch import nn

from convit.cli import main
from convit.model import VARIANTS, ConViT, FeatureExtractor
from convit.weights import adapt_weights, class_names, create_model, load_model, save_weights
from convit.weights.adapt import recognize

NANO = "convit_nano_patch4_32"
DIM = VARIANTS[NANO].config.dim


@pytest.fixture(scope="module")
def donor():
    return create_model(NANO)


@pytest.fixture(scope="module")
def bare_file(donor, tmp_path_factory):
    path = tmp_path_factory.mktemp("bare") / "nano.pth"
    torch.save(donor.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def own_file(donor, tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "nano.safetensors"
    save_weights(path, donor, {"classes": list(class_names("cifar10")), "crop_pct": 1.0, "license": "mine"})
    return path


def test_random_model_knows_its_preprocessing_but_no_classes():
    card = create_model("convit_tiny", img_size=(64, 96), in_chans=1, num_classes=7, drop_path_rate=None).pretrained_cfg
    assert (card["architecture"], card["tag"], card["hf_hub_id"]) == (
        "convit_tiny",
        "fb_in1k",
        "timm/convit_tiny.fb_in1k",
    )
    assert (card["input_size"], card["num_classes"], card["label_names"]) == ((1, 64, 96), 7, None)
    assert (card["crop_pct"], card["crop_mode"], card["interpolation"]) == (0.875, "center", "bicubic")
    assert (card["mean"], card["std"]) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (card["license"], card["trained_on"]) == (None, None)


def test_variant_without_public_weights():
    with pytest.raises(ValueError, match=r"convit_tiny_plus has no pretrained weights: "):
        create_model("convit_tiny_plus", pretrained=True)
    assert create_model("convit_tiny_plus", depth=2, local_up_to_layer=1).pretrained_cfg["source"] is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convit_smal", r"there is no model 'convit_smal'; did you mean 'convit_small' or"),
        (
            "timm/convit_tiny.fb_in1k",
            r"a hub repository is named hf-hub:timm/convit_tiny.fb_in1k, a folder local-dir:timm",
        ),
        ("hf-hub:convit_tiny", r"'convit_tiny' is not a hub repository; write hf-hub:owner/name"),
        ("", r"there is no model ''; there are convit_tiny"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(ValueError, match=message) as caught:
        create_model(name)
    assert "\n" not in str(caught.value)


def test_weights_in_the_place_of_a_name_are_told_where_they_go(tmp_path, capsys):
    file = tmp_path / "mine.safetensors"
    save_weights(file, create_model(NANO, num_classes=3))
    with pytest.raises(
        ValueError,
        match=rf"no model '{file}', but a file or folder with that name exists; to load weights from it, use --weights "
        rf"{file} ",
    ):
        create_model(str(file))
    for place in (file, tmp_path):
        assert main(["embed", "a.jpg", "--model", str(place)]) == 2
        assert f"to load weights from it, use --weights {place} (in Python, weights= " in capsys.readouterr().err


def test_unknown_option_and_bad_value():
    with pytest.raises(TypeError, match=r"'depht' is not a ConViT option; there are: .*depth"):
        create_model(NANO, depht=3)
    with pytest.raises(ValueError, match=r"33 x 33 pixels .height x width. is not tiled"):
        create_model(NANO, img_size=33)
    with pytest.raises(FileNotFoundError, match="there is no weight file"):
        create_model(NANO, checkpoint_path="no/such/file.pth")


def test_checkpoint_decides_what_the_caller_does_not_name(tmp_path):
    other = create_model(NANO, num_classes=3, in_chans=1, img_size=48)
    torch.save(other.state_dict(), tmp_path / "a.pth")
    model = create_model(NANO, checkpoint_path=tmp_path / "a.pth")
    assert (model.config.num_classes, model.config.in_chans, model.config.grid_size) == (3, 1, (12, 12))
    assert torch.equal(model.pos_embed, other.pos_embed)
    assert model.pretrained_cfg["label_names"] is None
    resized = create_model(NANO, checkpoint_path=tmp_path / "a.pth", img_size=32, in_chans=3, num_classes=0)
    assert (resized.config.num_classes, resized.config.in_chans, resized.config.grid_size) == (0, 3, (8, 8))


def test_own_file_carries_everything(own_file, donor):
    assert (load_model(own_file).training, create_model(NANO, checkpoint_path=own_file).training) == (False, True)
    for model in (load_model(own_file), create_model(NANO, checkpoint_path=own_file)):
        assert torch.equal(model.blocks[0].attn.qk.weight, donor.blocks[0].attn.qk.weight)
        card = model.pretrained_cfg
        assert (card["label_names"][3], card["crop_pct"], card["license"], card["source"]) == (
            "cat",
            1.0,
            "mine",
            "file",
        )
    embedder = load_model(own_file, num_classes=0, img_size=(16, 24))
    assert (embedder.pretrained_cfg["label_names"], embedder.pretrained_cfg["num_classes"]) == (None, 0)
    assert embedder.pretrained_cfg["input_size"] == (3, 16, 24)


def test_labels_follow_the_head(own_file):
    assert load_model(own_file, num_classes=10).pretrained_cfg["label_names"][3] == "cat"
    fresh = load_model(own_file, num_classes=4)
    assert fresh.pretrained_cfg["label_names"] is None
    assert fresh.head.weight.shape == (4, DIM)


def test_file_of_another_architecture(own_file, bare_file):
    with pytest.raises(
        ValueError, match=r"nano.safetensors holds a convit_nano_patch4_32, but a convit_tiny was asked for"
    ):
        create_model("convit_tiny", checkpoint_path=own_file)
    with pytest.raises(ValueError, match=r"nano.pth does not fit the model: it lacks blocks.5.attn.\w+.*") as caught:
        create_model("convit_tiny", checkpoint_path=bare_file)
    assert "more; it has blocks.5.attn.qkv.weight, which the model does not have; " in str(caught.value)
    assert str(caught.value).endswith(
        "the weights look like a convit_nano_patch4_32 with its usual options: create that"
    )
    assert "\n" not in str(caught.value)


def test_options_that_the_weights_do_not_have(bare_file):
    with pytest.raises(ValueError, match=r"pos_embed is .*|it has pos_embed, which the model does not have"):
        create_model(NANO, checkpoint_path=bare_file, use_pos_embed=False)
    with pytest.raises(ValueError, match=r"it lacks blocks.0.attn.qk.bias, .* and \d+ more; "):
        create_model(NANO, checkpoint_path=bare_file, qkv_bias=True)
    sizes = rf"patch_embed.proj.weight is {DIM} x 3 x 4 x 4, but the model's is {DIM} x 3 x 8 x 8; .*its usual options"
    with pytest.raises(ValueError, match=sizes):
        create_model(NANO, checkpoint_path=bare_file, patch_size=8)
    with pytest.raises(
        ValueError, match=rf"blocks.0.mlp.fc1.weight is {4 * DIM} x {DIM}, but the model's is {2 * DIM} x"
    ):
        create_model(NANO, checkpoint_path=bare_file, mlp_ratio=2.0)


def test_weights_are_not_shared_with_what_they_came_from(donor):
    tensors = donor.state_dict()
    model = create_model(NANO)
    adapted = adapt_weights(tensors, model, source_grid=(8, 8))
    assert adapted.keys() == tensors.keys()
    model.load_state_dict(adapted)
    with torch.no_grad():
        model.cls_token.add_(1)
    assert not torch.equal(model.cls_token, donor.cls_token)


def test_positions_of_a_grid_that_is_no_square(donor):
    wide = create_model(NANO, img_size=(16, 64))
    same = adapt_weights(wide.state_dict(), create_model(NANO, img_size=(16, 64)), source_grid=(4, 16))
    assert torch.equal(same["pos_embed"], wide.pos_embed)
    # 64 patches without a word about their grid are taken for 8 x 8
    guessed = adapt_weights(wide.state_dict(), create_model(NANO, img_size=(16, 64)))
    assert not torch.equal(guessed["pos_embed"], wide.pos_embed)
    odd = create_model(NANO, img_size=(16, 48))  # 48 patches: no square, so the model's own grid
    assert torch.equal(adapt_weights(odd.state_dict(), odd)["pos_embed"], odd.pos_embed)
    with pytest.raises(ValueError, match=r"48 patches .*8 x 8.*; say which grid"):
        adapt_weights(odd.state_dict(), donor)


def test_bare_files_are_recognized(bare_file, donor, tmp_path):
    assert load_model(bare_file).pretrained_cfg["architecture"] == NANO
    assert recognize(donor.state_dict()) == NANO
    torch.save({"weight": torch.zeros(2, 2)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"does not say which model it holds.*name the architecture: create_model"):
        load_model(tmp_path / "a.pth")


def test_feature_maps(own_file):
    model = create_model(NANO, checkpoint_path=own_file, features_only=True, out_indices=[1, 4])
    assert isinstance(model, FeatureExtractor)
    maps = model.eval()(torch.zeros(1, 3, 32, 40))
    assert [tuple(each.shape) for each in maps] == [(1, DIM, 8, 10)] * 2
    assert model.feature_info.channels() == [DIM, DIM]


def test_dtype_and_backbones(own_file, tmp_path):
    assert load_model(own_file, dtype=torch.bfloat16).head.weight.dtype == torch.bfloat16
    assert create_model(NANO, device="cpu", dtype=torch.float64).cls_token.dtype == torch.float64
    backbone = nn.Conv2d(3, 6, 2, 2)
    hybrid = create_model(NANO, hybrid_backbone=backbone)
    save_weights(tmp_path / "hybrid.safetensors", hybrid)
    again = load_model(tmp_path / "hybrid.safetensors", hybrid_backbone=nn.Conv2d(3, 6, 2, 2))
    assert isinstance(again, ConViT)
    assert torch.equal(again.patch_embed.backbone.weight, backbone.weight)
    with pytest.raises(ValueError, match=r"it has patch_embed.backbone.\w+, patch_embed.backbone.\w+, which the model"):
        load_model(tmp_path / "hybrid.safetensors")
