"""How a model starts, frozen, from weights or without the convolution, and how its parameters are grouped."""

import logging
from copy import deepcopy
from pathlib import Path

import pytest
import safetensors.torch
import torch

from convit.model import ConViT, ConViTConfig
from convit.training.models import build_model, class_count, freeze, image_size
from convit.training.optimizers import JointOptimizer, build_optimizer, parameter_groups
from convit.training.recipe import OptimizerRecipe
from convit.training.run import run_recipe
from convit.weights import create_model
from tests.training.small import small_recipe, write_data

SMALL = ConViTConfig(img_size=8, patch_size=4, depth=3, local_up_to_layer=2, num_heads=4, embed_dim=4, num_classes=3)


def _named(model: torch.nn.Module) -> dict[int, str]:
    return {id(parameter): name for name, parameter in model.named_parameters()}


def test_weight_decay_spares_what_it_should() -> None:
    model = ConViT(SMALL)
    groups = parameter_groups(model, OptimizerRecipe(weight_decay=0.05), 1.0)
    spared = [parameter for group in groups if not group["weight_decay"] for parameter in group["params"]]
    decayed = [parameter for group in groups if group["weight_decay"] for parameter in group["params"]]
    named = _named(model)
    assert len(decayed) + len(spared) == len(named)
    assert all(parameter.ndim > 1 for parameter in decayed)
    assert {named[id(parameter)] for parameter in spared if parameter.ndim > 1} == {"pos_embed", "cls_token"}


def test_layer_decay_lowers_the_rate_from_the_head_to_the_embeddings() -> None:
    model = ConViT(SMALL)
    named, rates = _named(model), {}
    for group in parameter_groups(model, OptimizerRecipe(layer_decay=0.5), 1.0):
        rates |= {named[id(parameter)]: group["lr"] for parameter in group["params"]}
    assert (rates["head.weight"], rates["norm.bias"], rates["blocks.2.attn.qkv.weight"]) == (1.0, 1.0, 0.5)
    assert (rates["blocks.0.mlp.fc1.bias"], rates["pos_embed"], rates["patch_embed.proj.weight"]) == (
        0.125,
        0.0625,
        0.0625,
    )


def test_muon_takes_the_matrices_in_the_blocks_and_adamw_the_rest() -> None:
    model = ConViT(SMALL)
    optimizer = build_optimizer(model, OptimizerRecipe(name="muon"), 0.1)
    assert isinstance(optimizer, JointOptimizer)
    named = _named(model)
    muon, adamw = ({named[id(p)] for g in part.param_groups for p in g["params"]} for part in optimizer.parts)
    assert muon | adamw == set(named.values())
    assert not muon & adamw
    assert all(name.startswith("blocks.") and name.endswith(".weight") and "pos_proj" not in name for name in muon)
    assert {"head.weight", "patch_embed.proj.weight", "blocks.0.attn.pos_proj.weight"} <= adamw


def test_two_optimizers_in_one_are_saved_and_restored_as_one() -> None:
    models = [ConViT(SMALL), ConViT(SMALL)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [build_optimizer(model, OptimizerRecipe(name="muon"), 0.01) for model in models]
    images = torch.randn(4, 3, 8, 8)

    def step(which: int) -> None:
        optimizers[which].zero_grad()
        models[which](images).square().sum().backward()
        optimizers[which].step()

    step(0)
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_dict(deepcopy(optimizers[0].state_dict()))
    for group in optimizers[0].param_groups + optimizers[1].param_groups:
        group["lr"] = 0.005  # what a schedule does must reach the parts, restored or not
    step(0)
    step(1)
    for first, second in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(first, second)


def test_frozen_parameters_do_not_move(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    recipe = small_recipe(tmp_path, "model.freeze=[backbone]", "ema=null")
    before = build_model(recipe).state_dict()
    after = safetensors.torch.load_file(run_recipe(recipe, data, tmp_path / "run", quiet=True))
    assert {name for name in after if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}


def test_freezing_by_beginning_and_ending() -> None:
    model = ConViT(SMALL)
    freeze(model, ["blocks.0.", "*gating_param"])
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert "blocks.1.attn.gating_param" in frozen
    assert all(name.startswith("blocks.0.") or name.endswith("gating_param") for name in frozen)


def test_the_starts_of_the_ablation(tmp_path: Path) -> None:
    model = build_model(small_recipe(tmp_path, "model.initial_gate=0.5", "model.convolutional_init=false"))
    assert isinstance(model, ConViT)
    attention = model.blocks[0].attn
    assert attention.gate.tolist() == pytest.approx([0.5] * 4)
    assert not torch.equal(attention.v.weight, torch.eye(16))
    assert attention.pos_proj.weight.abs().max() < 0.2
    usual = build_model(small_recipe(tmp_path)).blocks[0].attn
    assert torch.equal(usual.v.weight, torch.eye(16))


def test_a_run_starts_from_weights_and_says_so(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    recipe = small_recipe(
        tmp_path,
        "model={architecture: convit_nano_patch4_32, weights: convit_nano_patch4_32.cifar10, "
        "options: {num_classes: 2, img_size: 16}}",
        "optimizer.lr=1e-9",
        "ema=null",
        "schedule={epochs: 1, warmup_epochs: 0, cooldown_epochs: 0, min_lr: 0}",
    )
    weights = run_recipe(recipe, data, tmp_path / "run", quiet=True)
    original = create_model("convit_nano_patch4_32.cifar10", pretrained=True).state_dict()
    tuned = safetensors.torch.load_file(weights)
    name = "blocks.2.mlp.fc1.weight"
    torch.testing.assert_close(tuned[name], original[name], atol=1e-6, rtol=0)
    assert tuned["head.weight"].shape == (2, 108)
    described = create_model("convit_nano_patch4_32", checkpoint_path=weights).pretrained_cfg
    assert "fine-tuned from convit_nano_patch4_32.cifar10" in described["origin"]


def test_the_trained_file_loads_in_timm_and_gives_the_same_logits(tmp_path: Path) -> None:
    import timm

    data = write_data(tmp_path / "data")
    weights = run_recipe(small_recipe(tmp_path), data, tmp_path / "run", quiet=True)
    ours = create_model("convit_nano_patch4_32", checkpoint_path=weights).eval()
    logging.getLogger("timm").setLevel(logging.ERROR)
    theirs = timm.create_model(
        "convit_tiny",
        checkpoint_path=str(weights),
        img_size=8,
        patch_size=4,
        embed_dim=4,
        num_heads=4,
        depth=2,
        local_up_to_layer=1,
        num_classes=2,
    ).eval()
    images = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), atol=1e-5, rtol=1e-4)


def test_a_model_of_timm_trains_by_the_same_recipe(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    model = (
        "model={architecture: 'timm:deit_tiny_patch16_224', options: {img_size: 8, patch_size: 4, embed_dim: 16, "
        "depth: 2, num_heads: 2, num_classes: 2}}"
    )
    recipe = small_recipe(tmp_path, model, "run.attention_images=4")
    peer = build_model(recipe)
    assert (class_count(peer), image_size(peer, recipe)) == (2, (8, 8))
    tensors = safetensors.torch.load_file(run_recipe(recipe, data, tmp_path / "run", quiet=True))
    assert tensors.keys() == peer.state_dict().keys()
    assert not (tmp_path / "run" / "attention.jsonl").exists()  # it has no gates
    with pytest.raises(ValueError, match="timm cannot make 'nobody'"):
        build_model(small_recipe(tmp_path, "model.architecture='timm:nobody'", "model.options={}"))
    with pytest.raises(ValueError, match="belong to ConViT"):
        build_model(small_recipe(tmp_path, model, "model.initial_gate=0.5"))
    with pytest.raises(ValueError, match=r"model\.weights is 'mine\.pth', but timm:deit_tiny_patch16_224 starts"):
        build_model(small_recipe(tmp_path, model, "model.weights=mine.pth"))


def test_activations_are_checkpointed_before_anything_is_measured(tmp_path: Path) -> None:
    recomputed = "run.activation_checkpointing=true"
    assert build_model(small_recipe(tmp_path, recomputed)).grad_checkpointing
    theirs = "model={architecture: 'timm:convit_tiny', options: {depth: 1, local_up_to_layer: 0, num_classes: 2}}"
    with pytest.raises(ValueError, match="activation_checkpointing is true, but timm:convit_tiny does not support it"):
        build_model(small_recipe(tmp_path, theirs, recomputed))
