"""Element by element against timm on its own grid, with shaken weights, in every precision."""

import warnings

import pytest
import timm
import torch

from convit.model import VARIANTS, ConViT, GatedPositionalSelfAttention
from tests.shaken import GATE_RANGE, relative_error, root_mean_square_error, shake

NAMES = ["convit_tiny", "convit_small", "convit_base"]
DRAWS = {"convit_tiny": 6, "convit_small": 6, "convit_base": 2}


def _pair(name: str, seed: int) -> tuple[torch.nn.Module, ConViT]:
    """timm's model and ours in fp64 with the same shaken weights."""
    theirs = timm.create_model(name).double().eval()
    shake(theirs, seed)
    ours = ConViT(VARIANTS[name].config).double().eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_shaken_enough_to_tell(name: str) -> None:
    _, model = _pair(name, seed=0)
    with torch.inference_mode():
        assert model(torch.randn(2, 3, 224, 224, dtype=torch.float64)).std() >= 1
    gates = torch.cat([layer.gate for layer in model.modules() if isinstance(layer, GatedPositionalSelfAttention)])
    assert GATE_RANGE[0] <= gates.min() < 0.2
    assert 0.8 < gates.max() <= GATE_RANGE[1]


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_features_agree_in_float64(name: str) -> None:
    theirs, ours = _pair(name, seed=0)
    images = torch.randn(2, 3, 224, 224, dtype=torch.float64)
    with torch.inference_mode():
        assert relative_error(ours(images), theirs(images)) < 1e-9
        assert relative_error(ours.forward_features(images), theirs.forward_features(images)) < 1e-9
        ours.set_attention("plain")
        assert relative_error(ours(images), theirs(images)) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_in_float64(name: str) -> None:
    theirs, ours = _pair(name, seed=0)
    images = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    for model in (theirs, ours):
        model(images).square().sum().backward()
    reference = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        expected = reference[name].grad
        if name.endswith("pos_proj.bias"):
            # The bias cancels in the softmax: both gradients are nothing but rounding.
            assert max(parameter.grad.abs().max(), expected.abs().max()) < 1e-9
        else:
            assert relative_error(parameter.grad, expected) < 1e-9, name


def _rounded_outputs(name: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits in fp64, and timm's and ours in `dtype`, over several draws of weights and images."""
    exact, theirs_rounded, ours_rounded = [], [], []
    for seed in range(DRAWS[name]):
        theirs, ours = _pair(name, seed)
        images = torch.randn(4 if name != "convit_base" else 2, 3, 224, 224, dtype=torch.float64)
        with torch.inference_mode():
            exact.append(theirs(images))
            theirs_rounded.append(theirs.to(dtype)(images.to(dtype)))
            ours_rounded.append(ours.to(dtype)(images.to(dtype)))
    return torch.cat(exact), torch.cat(theirs_rounded), torch.cat(ours_rounded)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float32, 2.0), (torch.bfloat16, 1.1)])
def test_rounding_stays_near_timms(name: str, dtype: torch.dtype, allowed: float) -> None:
    exact, theirs, ours = _rounded_outputs(name, dtype)
    assert relative_error(ours, exact) <= allowed * relative_error(theirs, exact)
    assert root_mean_square_error(ours, exact) <= allowed * root_mean_square_error(theirs, exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_rounding_stays_near_timms(dtype: torch.dtype) -> None:
    allowed = 2.0 if dtype == torch.float32 else 1.1
    theirs, ours = _pair("convit_tiny", seed=0)
    images = torch.randn(4, 3, 224, 224, dtype=torch.float64)
    gradients = {}
    for label, model, kind in (
        ("exact", theirs, torch.float64),
        ("theirs", theirs, dtype),
        ("ours", ours, dtype),
    ):
        model.to(kind).zero_grad()
        model(images.to(kind)).float().square().mean().backward()
        gradients[label] = torch.cat(
            [p.grad.double().flatten() for n, p in sorted(model.named_parameters()) if not n.endswith("pos_proj.bias")]
        )
    theirs_error = root_mean_square_error(gradients["theirs"], gradients["exact"])
    assert root_mean_square_error(gradients["ours"], gradients["exact"]) <= allowed * theirs_error


def test_state_dicts_interchange_both_ways() -> None:
    theirs, ours = timm.create_model("convit_tiny"), ConViT(VARIANTS["convit_tiny"].config)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize(
    "options",
    [
        {"num_classes": 0},
        {"global_pool": "avg"},
        {"global_pool": "", "num_classes": 7},
        {"qkv_bias": True},
        {"use_pos_embed": False},
        {"in_chans": 1},
        {"local_up_to_layer": 4, "depth": 6},
        {"locality_strength": 3.0, "mlp_ratio": 2.0},
    ],
)
def test_options_mean_what_they_mean_in_timm(options: dict[str, object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs = timm.create_model("convit_tiny", **options).double().eval()
        ours = ConViT(VARIANTS["convit_tiny"].config.replace(**options)).double().eval()
    shake(theirs)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, ours.config.in_chans, 224, 224, dtype=torch.float64)
    with torch.inference_mode():
        assert relative_error(ours(images), theirs(images)) < 1e-9


def test_initial_weights_are_timms_where_they_are_not_random() -> None:
    theirs, ours = timm.create_model("convit_small"), ConViT(VARIANTS["convit_small"].config)
    reference = theirs.state_dict()
    for name, value in ours.state_dict().items():
        if name.endswith(("pos_proj.weight", "pos_proj.bias", ".v.weight", "gating_param")) or "norm" in name:
            assert torch.equal(value, reference[name]), name
        elif name.endswith("bias") and "patch_embed" not in name:
            assert not value.any(), name
        elif "patch_embed" not in name:
            assert float(value.std()) == pytest.approx(float(reference[name].std()), rel=0.1), name


def test_the_reference_is_timms_own_class() -> None:
    assert type(timm.create_model("convit_tiny", depth=1)).__module__ == "timm.models.convit"
