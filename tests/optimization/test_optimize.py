"""The fast form against the model that it came from, its plain twin."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convit
from convit.evaluation.weights_used import fingerprint_of
from convit.model import ConViT, ConViTConfig
from convit.optimization import OptimizedConViT, building, plan, precision, products, timing
from convit.optimization.folding import Affine
from convit.optimization.products import MklProduct, PackedProduct, PlainProduct, lay_out
from convit.transforms import TransformSettings, normalize_batch
from tests.shaken import shake

CONFIG = ConViTConfig(img_size=32, patch_size=8, num_heads=4, embed_dim=12, depth=4, local_up_to_layer=3, num_classes=5)
PRODUCTS = (PlainProduct, MklProduct, PackedProduct)
CLOSE = {"atol": 2e-5, "rtol": 2e-5}


def _model(**options: Any) -> ConViT:
    model = ConViT(CONFIG.replace(**options)).eval()
    shake(model)
    return model


def _images(*size: int) -> Tensor:
    return torch.randn(*size) if size else torch.randn(3, 3, 32, 32)


def _same(fast: OptimizedConViT, model: ConViT, images: Tensor) -> None:
    # MKL's weights are laid out at the second call with as many rows
    for _ in range(3):
        torch.testing.assert_close(fast(images), model(images), **CLOSE)
        torch.testing.assert_close(fast.forward_features(images), model.forward_features(images), **CLOSE)


@pytest.fixture(params=PRODUCTS)
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[nn.Module]:
    monkeypatch.setattr(building, "fastest_product", lambda device, dtype: request.param)
    return request.param


@pytest.mark.usefixtures("product")
@pytest.mark.parametrize("size", [(3, 3, 32, 32), (1, 3, 32, 32), (2, 3, 8, 40), (5, 3, 64, 24)])
def test_gives_what_its_model_gives_on_any_grid(size: tuple[int, ...]) -> None:
    model = _model()
    _same(convit.optimize(model, "fp32"), model, _images(*size))


@pytest.mark.parametrize(
    "options",
    [
        {"qkv_bias": True},
        {"num_classes": 0},
        {"global_pool": "avg"},
        {"global_pool": ""},
        {"global_pool": "avg", "local_up_to_layer": 4},
        {"local_up_to_layer": 0},
        {"use_pos_embed": False},
        {"in_chans": 1},
        {"in_chans": 5},
        {"embed_dim": 48, "num_heads": 1},
        {"drop_rate": 0.5, "pos_drop_rate": 0.5, "proj_drop_rate": 0.5, "attn_drop_rate": 0.5, "drop_path_rate": 0.5},
    ],
)
def test_gives_what_its_model_gives_whatever_the_configuration(options: dict[str, Any]) -> None:
    model = _model(**options)
    _same(convit.optimize(model, "fp32"), model, _images(2, model.config.in_chans, 32, 32))


def test_no_image_file_has_such_channels() -> None:
    fast = convit.optimize(_model(in_chans=5), "fastest", batch_size=1)
    with pytest.raises(ValueError, match="8-bit images of 5 channels have no normalization; give normalized ones"):
        fast(torch.zeros(1, 5, 32, 32, dtype=torch.uint8))


def test_pads_like_its_model() -> None:
    model = _model(dynamic_img_pad=True)
    _same(convit.optimize(model, "fp32"), model, _images(2, 3, 30, 45))


@pytest.mark.usefixtures("product")
def test_changing_batches_and_sizes() -> None:
    model = _model()
    fast = convit.optimize(model, "fp32")
    for count, side in ((4, 32), (4, 32), (1, 32), (4, 32), (2, 48), (2, 48), (7, 16), (4, 32)):
        images = _images(count, 3, side, side)
        torch.testing.assert_close(fast(images), model(images), **CLOSE)


def test_saturated_gates_and_sharp_places() -> None:
    model = _model()
    with torch.no_grad():
        model.blocks[0].attn.gating_param.copy_(torch.tensor([-200.0, 200.0, -20.0, 20.0]))
        model.blocks[1].attn.pos_proj.weight.mul_(50)
    _same(convit.optimize(model, "fp32"), model, _images())


@pytest.mark.usefixtures("triton_interpreter")
def test_the_kernel_in_place_of_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_choose_attention", lambda *_: plan.Step("gated attention", "triton", "a test"))
    model, images = _model(), _images(2, 3, 24, 32)
    fast = convit.optimize(model, "fp32")
    assert [block.attend.kernel for block in fast.model.blocks if hasattr(block.attend, "kernel")] == [True] * 3
    torch.testing.assert_close(fast(images), model(images), **CLOSE)


def test_heads_and_intermediate_layers() -> None:
    model = _model()
    fast, images = convit.optimize(model, "fp32"), _images()
    tokens = model.forward_features(images)
    torch.testing.assert_close(fast.forward_head(tokens), model.forward_head(tokens), **CLOSE)
    torch.testing.assert_close(fast.forward_head(tokens, pre_logits=True), tokens[:, 0])
    for options in (
        {},
        {"norm": True, "output_fmt": "NLC", "return_prefix_tokens": True},
        {"intermediates_only": True},
    ):
        torch.testing.assert_close(
            fast.forward_intermediates(images, [0, 3], **options),
            model.forward_intermediates(images, [0, 3], **options),
            **CLOSE,
        )
    assert (fast.config, fast.num_classes, fast.num_features) == (model.config, 5, 48)
    assert (fast.global_pool, fast.num_prefix_tokens) == ("token", 1)
    assert fast.feature_info == model.feature_info


@pytest.mark.parametrize("options", [{}, {"dynamic_img_pad": True}])
def test_8_bit_images_are_normalized_inside(options: dict[str, Any]) -> None:
    model = _model(**options)
    model.pretrained_cfg = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)}
    fast = convit.optimize(model, "fp32")
    side = 30 if "dynamic_img_pad" in options else 32
    levels = torch.randint(256, (2, side, side, 3), dtype=torch.uint8)
    expected = model(normalize_batch(levels, TransformSettings.from_model(model)))
    found = fast(levels.permute(0, 3, 1, 2))
    assert fast.takes_uint8
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, **CLOSE)


def test_the_model_stays_as_it_was() -> None:
    model = _model().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast = convit.optimize(model, "fp32")
    images = _images()
    kept = fast(images)
    model(images).square().sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(parameter.grad)
    assert model.training
    torch.testing.assert_close(fast(images), kept)
    fresh = ConViT(CONFIG)
    fresh.load_state_dict(before)
    torch.testing.assert_close(fresh.eval()(images), kept, **CLOSE)


def test_tokens_of_a_block_are_not_written_over() -> None:
    model = _model()
    fast, images = convit.optimize(model, "fp32"), _images()
    first = fast.forward_intermediates(images, [0], intermediates_only=True)[0]
    again = fast.forward_intermediates(images, None, intermediates_only=True)[0]
    torch.testing.assert_close(first, again, atol=0, rtol=0)


@pytest.mark.parametrize("asked", ["bf16", "fp16"])
def test_half_precision_is_computed_in_fp32_where_it_does_not_pay(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_pays", lambda: False)
    model, images = _model(), _images()
    fast = convit.optimize(model, asked)
    assert (fast.plan.precision, fast.plan.dtype) == (asked, "fp32")
    torch.testing.assert_close(fast(images), model(images), **CLOSE)
    half = images.to(precision.dtype_of(asked))
    assert fast(half).dtype == half.dtype
    torch.testing.assert_close(fast(half), model(half.float()).to(half.dtype), atol=1e-2, rtol=1e-2)


def test_bf16_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_pays", lambda: True)
    model, images = _model(), _images(16, 3, 32, 32)
    fast = convit.optimize(model, "bf16")
    assert (fast.plan.precision, fast.plan.dtype) == ("bf16", "bf16")
    half = convit.optimize(model, "fp32")(images)
    torch.testing.assert_close(fast(images), half, atol=0.1, rtol=0.05)
    assert fast(images.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("milliseconds", "least_cosine", "expected"),
    [
        ({"fp32": 3, "bf16": 1}, 0.9, "bf16"),
        ({"fp32": 1, "bf16": 3}, 0.9, "fp32"),
        ({"fp32": 3, "bf16": 1}, 1.1, "fp32"),
    ],
)
def test_fastest_is_timed_and_held_to_fp32(
    milliseconds: dict[str, int], least_cosine: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bfloat16_pays", lambda: True)
    times = {name: [each / 1000] for name, each in milliseconds.items()}
    monkeypatch.setattr(timing, "alternate", lambda *_: times)
    monkeypatch.setattr(timing, "LEAST_COSINE", least_cosine)
    fast = convit.optimize(_model(), "fastest", batch_size=2)
    assert (fast.plan.precision, fast.plan.dtype) == (expected, expected)
    step = fast.plan.steps[0]
    assert step.choice == expected
    fp32, bf16 = milliseconds.values()
    assert f"2 images of 32 x 32 took {fp32}.0 ms in fp32, {bf16}.0 ms in bf16; cosine with fp32 " in step.reason


def test_a_single_precision_is_taken_without_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bfloat16_pays", lambda: False)
    monkeypatch.setattr(OptimizedConViT, "forward", None)
    step = convit.optimize(_model(), "fastest").plan.steps[0]
    assert step == ("precision", "fp32", "fastest: no half precision is faster here, so nothing was timed")


def test_fastest_really_times_what_this_processor_has() -> None:
    model, images = _model(), _images(3, 3, 32, 32)
    fast = convit.optimize(model, "fastest")
    assert fast.plan.precision in precision.native_precisions(torch.device("cpu"))
    cosine = nn.functional.cosine_similarity(fast(images).flatten(1), model(images).flatten(1))
    assert cosine.min() >= timing.LEAST_COSINE


def test_the_plan_says_what_was_chosen() -> None:
    fast = convit.optimize(_model(), "fp32")
    assert (fast.plan.device, fast.plan.precision, fast.plan.dtype, fast.plan.backend) == (
        "cpu",
        "fp32",
        "fp32",
        "torch",
    )
    names = [step.name for step in fast.plan.steps]
    assert names[:3] == ["precision", "computed in", "run by"]
    assert {"norms", "position attention", "products", "last block", "8-bit images"} <= set(names)
    assert all(step.choice and step.reason for step in fast.plan.steps)


def test_refuses_what_cannot_be_done() -> None:
    model = _model()
    with pytest.raises(TypeError, match="model is a Linear, but only a ConViT"):
        convit.optimize(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="precision is 'int4', but must be one of auto, fastest, fp32"):
        convit.optimize(model, "int4")
    with pytest.raises(ValueError, match="precision is 'fp8', but cpu is not a CUDA GPU"):
        convit.optimize(model, "fp8")
    fast = convit.optimize(model, "fp32")
    with pytest.raises(ValueError, match="inference alone"):
        fast.train()
    with pytest.raises(ValueError, match="30"):
        fast(_images(1, 3, 32, 30))
    with pytest.raises(ValueError, match="run by torch; use PyTorch's profiler"):
        fast.layer_times(_images())


def test_weights_are_laid_out_for_rows_that_keep_coming_and_are_not_too_many() -> None:
    product = MklProduct(Affine(torch.randn(4, 6), torch.randn(4)), torch.float32)
    for rows, laid_out in ((3, None), (3, 3), (5, 3), (3, 3), (5, 3), (5, 5), (4000, 5), (4000, 5)):
        images = torch.randn(rows, 6)
        torch.testing.assert_close(product(images), torch.nn.functional.linear(images, product.weight, product.bias))
        assert (product._packed or (None,))[0] == laid_out


@pytest.mark.usefixtures("product")
def test_a_fast_form_is_copied_and_pickled() -> None:
    fast, images = convit.optimize(_model(), "fp32"), _images()
    for _ in range(3):  # after which weights are laid out
        expected = fast(images)
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        torch.testing.assert_close(twin(images), expected, **CLOSE)


@pytest.mark.parametrize("backend", ["compiled", "cuda graph"])
def test_a_copy_makes_its_own_calls(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    def recorded(call: Any, *_: Any) -> Any:
        made.append(call.__self__)
        return lambda images: call(images)

    monkeypatch.setattr(building, "choose_backend", lambda *_, **__: plan.Step("run by", backend, "a test"))
    for name in ("compiled", "GraphedCall"):
        monkeypatch.setattr(building, name, recorded)
    fast, images = convit.optimize(_model(), "fp32"), _images()
    for twin in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        torch.testing.assert_close(twin(images), fast(images), **CLOSE)
        assert made[-1] is twin.model


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:FutureWarning")
@pytest.mark.usefixtures("product")
def test_a_fast_form_keeps_what_it_was_made_for() -> None:
    fast, images = convit.optimize(_model(), "fp32"), _images()
    for _ in range(3):
        expected = fast(images)
    tokens = fast.forward_features(images)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(fast(images), expected, **CLOSE)
        torch.testing.assert_close(fast.forward_head(tokens), expected, **CLOSE)
        torch.testing.assert_close(fast.forward_intermediates(images, [3])[0], tokens, **CLOSE)
    for same in (fast.cpu(), fast.float(), fast.to("cpu", torch.float32), fast.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(same(images), expected, **CLOSE)
    for cast in (fast.half, fast.bfloat16, fast.double, lambda: fast.to("meta"), lambda: nn.Sequential(fast).half()):
        with pytest.raises(ValueError, match=r"stays what it was made for \(fp32 on cpu\); move or cast the"):
            cast()
    for loading in (fast, nn.Sequential(fast)):
        with pytest.raises(ValueError, match="loads no weights, since its own are folded; load them into the model"):
            loading.load_state_dict(loading.state_dict())
    head = {f"1.{name}": value for name, value in nn.Linear(2, 2).state_dict().items()}
    assert not nn.ModuleList([fast, nn.Linear(2, 2)]).load_state_dict(head, strict=False).unexpected_keys
    for record in (torch.jit.trace, torch.export.export):
        with pytest.raises(ValueError, match=r"can't be traced or exported, .*write a file with convit\.export"):
            record(fast, (images,))
    torch.testing.assert_close(fast(images), expected, **CLOSE)


def test_a_half_precision_fast_form_is_told_twice_and_stays() -> None:
    fast = convit.optimize(_model(), "bf16")
    before = {name: value.dtype for name, value in fast.state_dict().items()}
    fast.to(precision.dtype_of(fast.plan.dtype))
    assert {name: value.dtype for name, value in fast.state_dict().items()} == before


def test_what_tells_weights_apart_reads_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model()
    found = set[tuple[str, ...]]()
    for kind in PRODUCTS:
        monkeypatch.setattr(building, "fastest_product", lambda device, dtype, kind=kind: kind)
        changed = copy.deepcopy(model)
        with torch.no_grad():
            changed.blocks[1].attn.proj.weight[0, 0] += 1
        found.add(tuple(fingerprint_of(convit.optimize(each, "fp32"), None) for each in (model, changed)))
    ((one, other),) = found  # on every processor the same
    assert one != other


@pytest.mark.parametrize(("amd", "expected"), [(True, PackedProduct), (False, MklProduct)])
def test_fp32_products_suit_the_processor(amd: bool, expected: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "is_amd_avx512", lambda: amd)
    if not torch.backends.mkl.is_available():
        pytest.skip("PyTorch is built without MKL here")
    assert products.fastest_product(torch.device("cpu"), torch.float32) is expected


def test_weights_are_laid_out_when_it_is_said() -> None:
    product = MklProduct(Affine(torch.randn(4, 6), torch.randn(4)), torch.float32)
    for rows, now, laid_out in ((3, False, None), (3, False, None), (5, True, 5), (3, False, 5), (3, False, 5)):
        lay_out(torch.nn.Sequential(product), now)
        product(torch.randn(rows, 6))
        assert (product._packed or (None,))[0] == laid_out
