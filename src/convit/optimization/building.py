"""`optimize`: from a model to its fast form."""

from __future__ import annotations

import copy
import logging
import statistics
from collections.abc import Callable, Iterable
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from convit.model.attention import GatedPositionalSelfAttention
from convit.model.convit import ConViT
from convit.model.kernels.gated_attention import DTYPES, check_runs
from convit.model.layers import Block, PatchEmbedding
from convit.model.processor import is_amd_avx512
from convit.model.shortcuts import is_untouched, takes_shortcuts
from convit.optimization.blocks import FastBlock, FastEmbedding, Form, embedding_of_levels
from convit.optimization.calls import FixedBatch, GraphedCall, compiled, copied
from convit.optimization.optimized import Images, OptimizedConViT, Runner, normalized
from convit.optimization.plan import WITHOUT_INT8, Plan, Step, choose_backend, choose_dtype, choose_precision
from convit.optimization.precision import dtype_of, native_precisions
from convit.optimization.products import MklProduct, PackedProduct, PlainProduct, Product, fastest_product, quantize
from convit.optimization.timing import alternate, fastest, settling
from convit.output.text import first_line
from convit.transforms import TransformSettings
from convit.transforms.settings import as_height_width

_log = logging.getLogger(__name__)
WARM_UP, ROUNDS = 3, 10
_FORMS = ("fused", "triton")
_MOST_APART = 0.05  # of the largest value: above the rounding of any precision, below any mistake that matters


def fastest_attention(model: ConViT, images: Float[Tensor, "batch channels height width"]) -> str:
    """Time one GPSA layer of `model` in both fast forms at the shape of `images` and name the faster.

    The model stays as it is: `model.set_attention(fastest_attention(model, images))` takes the answer. In training mode
    it is timed forward and backward, else forward alone, under the autocast of the call, eagerly, so launches count.

    Args:
        model: on the device where it will run, in the precision in which it will run.
        images: a batch of the size to come, on that device; its numbers aren't read.

    Returns:
        "triton" if it runs, gives what the other form gives, and is faster; else "fused", with a warning if a GPU
        should run it but does not.
    """
    local = [cast(GatedPositionalSelfAttention, block.attn) for block in model.blocks if block.is_local]
    if not local or images.device.type != "cuda":
        return "fused"
    layer = local[0]
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else layer.gating_param.dtype
    try:
        check_runs(images.device, model.config.dim // layer.num_heads)
    except ValueError:
        return "fused"
    if dtype not in DTYPES or (layer.training and layer.attn_drop.p > 0):
        return "fused"
    size = model.config.patch_size
    grid = (-(-images.shape[-2] // size), -(-images.shape[-1] // size))
    like, still = layer.gating_param, copy.deepcopy(layer).eval()  # without dropout
    tokens = torch.randn(images.shape[0], grid[0] * grid[1], layer.dim, device=like.device, dtype=like.dtype)
    try:
        fused, triton = (_run_of(still, form, tokens, grid)() for form in _FORMS)
        calls = {form: _run_of(layer, form, tokens, grid) for form in _FORMS}
        seconds = alternate(calls, ROUNDS, settling(images.device), WARM_UP)
    except Exception as error:  # a compiler's own kinds, on a GPU where nobody has tried the kernel
        _log.warning("the Triton kernel does not run on %s (%s); attention is fused", images.device, first_line(error))
        return "fused"
    if not (triton - fused).abs().max() <= _MOST_APART * fused.abs().max():
        _log.warning("the Triton kernel gives other values on %s; attention is fused", images.device)
        return "fused"
    return min(seconds, key=lambda form: statistics.median(seconds[form]))


def _run_of(
    layer: GatedPositionalSelfAttention, form: str, tokens: Tensor, grid: tuple[int, int]
) -> Callable[[], Tensor]:
    """A call of a twin in that form, which shares the layer's parameters."""
    twin, tokens = copy.copy(layer), tokens.detach().requires_grad_(layer.training)
    twin.plain, twin.kernel = False, form == "triton"
    learned = [parameter for parameter in layer.parameters() if parameter.requires_grad]

    def run() -> Tensor:
        with torch.set_grad_enabled(layer.training):
            read = twin(tokens, grid)
            if layer.training:
                torch.autograd.grad(read.sum(), [tokens, *learned])
        return read

    return run


NORMS = Step("norms", "folded", "scale and shift are in the products after them")
POSITION = Step("position attention", "two factors per grid", "computed once, the gate in the first")
LAST_BLOCK = Step("last block", "class token alone", "nothing else is read, unless every token is asked for")
TOUCHED = "layers in these blocks are adapted, hooked or exchanged, so they are called as they are"
WHOLE_LAST_BLOCK = Step("last block", "every token", "it is not folded")
TOGETHER = Step("queries, keys, values", "one product", "of one input; the attention scale is in the queries' weights")
APART = Step("queries, keys, values", "three products", "OpenVINO takes long to cut one result in three")
LEVELS = Step("8-bit images", "normalized in the patch kernel", "which is linear")
NO_LEVELS = Step("8-bit images", "normalized beforehand", "what runs the model takes normalized images alone")
PRODUCTS: dict[Product, Step] = {
    MklProduct: Step("products", "weights laid out by MKL", "for the number of rows that keeps coming"),
    PackedProduct: Step("products", "weights laid out by oneDNN", "once; GELU is part of the product"),
    PlainProduct: Step("products", "PyTorch's own", "what runs the model joins them with what follows by itself"),
}


@torch.no_grad()
def optimize(
    model: nn.Module,
    precision: str = "auto",
    *,
    compile: bool = False,  # noqa: A002
    batch_size: int | None = None,
    img_size: int | tuple[int, int] | None = None,
    calibration: Images | Iterable[Images] | None = None,
) -> OptimizedConViT:
    """The fast form of a model on the device where it is, for inference; the model itself stays as it is.

    Exact folds (norms, attention scale, gates, normalization of 8-bit images), queries, keys and values as one
    product, position factors once per grid, weights laid out for the processor, and recorded graphs on GPUs. `plan`
    tells what was chosen and why.

    Args:
        model: a ConViT; its dropout and drop path are left out.
        precision: "fp32", "bf16", "fp16", "fp8" (GPUs from Ada on), "int8"; "auto": bf16 on GPUs that have matrix units
            for it, else fp32; or "fastest": whichever of fp32, bf16 and fp16 takes the least time here, among those
            whose outputs have a cosine of at least 0.999 with fp32's.
        compile: puts the model through `torch.compile` (half a minute for each image size).
        batch_size: images per pass of compiled code and recorded graphs; others are cut and filled up. None takes the
            first batch's.
        img_size: side or (height, width) in pixels of the images on which choices are timed ("fastest", and attention
            on CUDA), whatever size comes later; None for the model's own.
        calibration: images as the model will see them, to choose the ranges of int8 on a CPU: a batch, or several
            (16 to 300 images).

    Raises:
        TypeError: `model` is not a `ConViT`.
        ValueError: an unknown precision, one that the device cannot compute in, or int8 on a CPU without `calibration`
            or with adapted or hooked layers.
        ModuleNotFoundError: the precision needs a package that is not installed.

    >>> from convit.model import ConViT, ConViTConfig
    >>> fast = optimize(ConViT(ConViTConfig(img_size=32, patch_size=8, depth=3, local_up_to_layer=2)), "fp32")
    >>> fast(torch.zeros(2, 3, 32, 32)).shape, fast.plan.precision
    (torch.Size([2, 1000]), 'fp32')
    """
    if not isinstance(model, ConViT):
        raise TypeError(f"model is a {type(model).__name__}, but only a ConViT can be optimized")
    device = next(model.parameters()).device
    if precision == "fastest":
        make = partial(optimize, model, compile=compile, batch_size=batch_size, img_size=img_size)
        return fastest({name: make(name) for name in native_precisions(device)}, batch_size, img_size)
    chosen = choose_precision(precision, device, calibrated=calibration is not None)
    computed = choose_dtype(chosen.choice, device)
    backend = choose_backend(chosen.choice, device, compile=compile)
    if compile and backend.choice != "compiled":
        _log.info("%s is %s", computed.choice, backend.reason)
    if backend.reason == WITHOUT_INT8:
        _log.info("int8 is hardly faster here: %s", WITHOUT_INT8)
    dtype = dtype_of(computed.choice)
    product = fastest_product(device, dtype) if backend.choice == "torch" else PlainProduct
    # no image file has other numbers of channels, and nobody says how to normalize them
    settings = TransformSettings.from_model(model) if model.config.in_chans in (1, 3) else None
    apart = backend.choice == "openvino"
    kept = _called(model, backend.choice)
    attention = _choose_attention(model, device, dtype, batch_size, img_size)
    folded = fold(model, Form(product, dtype, kernel=attention.choice == "triton", apart=apart))
    if chosen.choice in ("fp8", "int8") and device.type == "cuda":
        quantize(folded, chosen.choice)
    runner = _runner(backend.choice, device, batch_size, _batches(calibration, settings))
    of_levels = None if apart else taking_levels(model, folded, dtype, settings)
    together, levels = APART if apart else TOGETHER, NO_LEVELS if of_levels is None else LEVELS
    last = LAST_BLOCK if takes_shortcuts(model.blocks[-1]) else WHOLE_LAST_BLOCK
    steps = (chosen, computed, backend, attention, NORMS, together, POSITION, last, levels, PRODUCTS[product], *kept)
    plan = Plan(str(device), chosen.choice, computed.choice, backend.choice, steps)
    return OptimizedConViT(folded, of_levels, plan, dtype, runner, settings)


def _choose_attention(
    model: ConViT,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int | None,
    img_size: int | tuple[int, int] | None,
) -> Step:
    """Settle how gated attention is computed: on CUDA by timing both forms."""
    if device.type == "cpu" and dtype == torch.bfloat16 and is_amd_avx512():
        return Step(
            "gated attention", "fused", "but for content attention of few tokens, as batched products: AMD, bf16"
        )
    if device.type != "cuda":
        return Step("gated attention", "fused", "the Triton kernel needs a CUDA GPU")
    height, width = as_height_width(img_size or model.config.img_size)
    images = torch.empty(batch_size or 64, model.config.in_chans, height, width, device=device)
    probe = copy.deepcopy(model).to(dtype).eval()
    return Step("gated attention", fastest_attention(probe, images), "the fastest of the forms that run here")


def fold(model: ConViT, form: Form) -> ConViT:
    """The model with fast blocks; the model itself stays as it is."""
    folded, dtype = copy.copy(model), form.dtype
    # the copy shares its tables of parts with the original until they are replaced here
    folded._modules, folded._parameters, folded._buffers = {}, {}, {}
    folded.pos_embed = None  # added by the fast embedding
    folded.patch_embed = FastEmbedding(model, model.patch_embed, dtype)
    token = model.cls_token
    folded.cls_token = None if token is None else nn.Parameter(token.detach().to(dtype, copy=True), requires_grad=False)
    folded.pos_drop, folded.head_drop = copy.deepcopy(model.pos_drop), copy.deepcopy(model.head_drop)
    folded.blocks = nn.ModuleList(
        FastBlock(cast(Block, block), form) if takes_shortcuts(block) else copy.deepcopy(block).to(dtype)
        for block in model.blocks
    )
    folded.norm = copy.deepcopy(model.norm).to(dtype)
    folded.head = copy.deepcopy(model.head).to(dtype)
    folded.pretrained_cfg = dict(model.pretrained_cfg)
    folded.plain = folded.grad_checkpointing = False
    return folded.eval().requires_grad_(False)


def _called(model: ConViT, backend: str) -> tuple[Step, ...]:
    """Which blocks are kept; a caller who merges adapters first gets all of them folded."""
    kept = ", ".join(str(index) for index, block in enumerate(model.blocks) if not takes_shortcuts(block))
    if kept and backend == "openvino":
        raise ValueError(
            f"layers in blocks {kept} are adapted, hooked or exchanged, and OpenVINO can't run them; merge adapters "
            "and remove hooks, or take another precision"
        )
    return (Step("blocks not folded", kept, TOUCHED),) if kept else ()


def taking_levels(
    model: ConViT, folded: ConViT, dtype: torch.dtype, settings: TransformSettings | None
) -> ConViT | None:
    """The folded model for uint8 pixel values, which shares all but the embedding; None if its kernel isn't read."""
    embedding = cast(PatchEmbedding, model.patch_embed)
    is_read = is_untouched(embedding, PatchEmbedding) and is_untouched(embedding.proj, nn.Conv2d)
    if settings is None or not is_read or len(settings.mean) != model.config.in_chans:
        return None
    patches = embedding_of_levels(embedding, settings.mean, settings.std)
    twin = copy.copy(folded)
    twin._modules = {**folded._modules, "patch_embed": FastEmbedding(model, patches, dtype)}
    return twin.eval().requires_grad_(False)


def _batches(calibration: Images | Iterable[Images] | None, settings: TransformSettings | None) -> list[Tensor]:
    """Calibration images as normalized fp32 batches on the CPU."""
    given = [calibration] if isinstance(calibration, Tensor) else list(calibration or ())
    return [normalized(batch, settings) if batch.dtype == torch.uint8 else batch.float().cpu() for batch in given]


def _runner(backend: str, device: torch.device, batch_size: int | None, calibration: list[Tensor]) -> Runner:
    if backend == "openvino":
        from convit.optimization.openvino import OpenVinoRunner

        return OpenVinoRunner(calibration)
    if backend == "compiled":
        return partial(_compiled, device=device, batch_size=batch_size)
    return partial(_graphed, batch_size=batch_size) if backend == "cuda graph" else getattr


def _compiled(model: ConViT, name: str, *, device: torch.device, batch_size: int | None) -> FixedBatch:
    return FixedBatch(compiled(getattr(model, name), device), batch_size)


def _graphed(model: ConViT, name: str, *, batch_size: int | None) -> FixedBatch:
    return FixedBatch(copied(GraphedCall(getattr(model, name))), batch_size)
