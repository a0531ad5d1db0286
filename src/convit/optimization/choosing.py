"""Which form of GPSA is faster here: timed on the device, at the shape that will be run."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from convit.model.attention import GatedPositionalSelfAttention
from convit.model.convit import ConViT
from convit.model.kernels.gated_attention import DTYPES, check_runs

WARM_UP, ROUNDS = 3, 10


def fastest_attention(model: ConViT, images: Float[Tensor, "batch channels height width"]) -> str:
    """Time one GPSA layer of `model` in both fast forms at the shape of `images` and name the faster.

    Neither the model nor its gradients are changed: `model.set_attention(fastest_attention(model, images))` takes the
    answer. A model in training mode is timed forward and backward, else forward alone, under the autocast of the call.
    Takes some seconds when the kernel is compiled for the first time. The medians are of 10 runs, timed with CUDA
    events after 3 more; eager runs, so that launches count, which CUDA graphs and large batches hide.

    Args:
        model: on the device where it will run, in the precision in which it will run.
        images: a batch of the size to come, on that device; its numbers aren't read.

    Returns:
        "triton" where it is faster, else "fused": also on devices without CUDA, without triton, for precisions or head
        sizes that the kernel doesn't take, in training with attention dropout, and for a model without GPSA.
    """
    local = [cast(GatedPositionalSelfAttention, block.attn) for block in model.blocks if block.is_local]
    if not local or images.device.type != "cuda":
        return "fused"
    layer = local[0]
    dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else layer.v.weight.dtype
    try:
        check_runs(images.device, model.config.dim // layer.num_heads)
    except ValueError:
        return "fused"
    if dtype not in DTYPES or (layer.training and layer.attn_drop.p > 0):
        return "fused"
    size = model.config.patch_size
    grid = (-(-images.shape[-2] // size), -(-images.shape[-1] // size))
    with torch.cuda.device(images.device):  # events are recorded on the current one
        seconds = {form: _time_form(layer, form, images.shape[0], grid) for form in ("fused", "triton")}
    return min(seconds, key=lambda form: seconds[form])


def _time_form(layer: GatedPositionalSelfAttention, form: str, batch: int, grid: tuple[int, int]) -> float:
    """Seconds that `layer` takes in `form` for random tokens; the layer is left as it was."""
    weight, before = layer.v.weight, (layer.plain, layer.kernel)
    tokens = torch.randn(batch, grid[0] * grid[1], weight.shape[1], device=weight.device, dtype=weight.dtype)
    tokens.requires_grad_(layer.training)
    layer.plain, layer.kernel = False, form == "triton"
    learned = [parameter for parameter in layer.parameters() if parameter.requires_grad]

    def run() -> None:
        with torch.set_grad_enabled(layer.training):
            read = layer(tokens, grid)
            if layer.training:
                torch.autograd.grad(read.sum(), [tokens, *learned])

    try:
        return median_seconds(run)
    finally:
        layer.plain, layer.kernel = before


def median_seconds(run: Callable[[], None]) -> float:
    """Median time of `run` on the current CUDA device, seconds."""
    for _ in range(WARM_UP):
        run()
    times: list[float] = []
    for _ in range(ROUNDS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)  # given in milliseconds
    return statistics.median(times)
