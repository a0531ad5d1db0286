"""The Triton kernel as a PyTorch operator: differentiable, opaque to `torch.compile`, checked before it is launched."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from types import ModuleType

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
LARGEST_HEAD = 128
_KERNELS = "convit.model.kernels.gpsa"


def fused_gated_attention(
    query: Float[Tensor, "batch heads patches head_dim"],
    key: Float[Tensor, "batch heads patches head_dim"],
    value: Float[Tensor, "batch heads patches head_dim"],
    rows: Float[Tensor, "heads grid_height grid_height"],
    columns: Float[Tensor, "heads grid_width grid_width"],
    gate: Float[Tensor, " heads"],
) -> Float[Tensor, "batch patches dim"]:
    """Gated positional self-attention in one pass over keys and values: no patches x patches matrix, no other pass.

    Source: ConViT (arXiv 2103.10697), Eq. 7, in the manner of FlashAttention (arXiv 2205.14135; 2307.08691 for the
    backward pass). Differs: the position matrix is the Kronecker product of `rows` and `columns`, whose entries are
    multiplied as they are needed.

    Per pair of a query and a key this costs three products of length head_dim (scores, content, position) and two of
    the length of a window of the factors (at least 16), where `F.scaled_dot_product_attention` takes two. In training
    the content half is kept besides the result, in the values' precision, and one fp32 number per query and head: the
    result less the position half would give the softmax's gradient too coarsely where a gate is near 1. There are no
    atomic additions: equal block sizes give equal bits. Sums are fp32 whatever the inputs, products of fp32 inputs full
    fp32, not TF32; with half-precision inputs the factors count 11 bits.

    The first call with another head size, precision or power of two of patches compiles the kernel and times a few
    block sizes: make it before a CUDA graph is captured. Proved in Triton's interpreter and compiled for Hopper, but
    neither run nor timed on a GPU yet.

    Args:
        query: any strides, but channels side by side (a view of a joint projection is read where it lies); fp16, bf16
            or fp32; patches in row-major order of the grid.
        key: as `query`, of its precision.
        value: as `query`, of its precision.
        rows: attention between the rows of the grid per head, rows summing to 1; computed in fp32.
        columns: attention between its columns.
        gate: how much of each head is position attention, in [0, 1].

    Returns:
        What the heads read, side by side (head_dim channels each), in the precision of `value`.

    Raises:
        ValueError: the kernel can't run on the tensors' device (`check_runs`), a head is wider than 128, precisions
            differ or are none of the three, or the factors' grid does not have as many patches as `query`.
    """
    if query.dtype not in DTYPES or key.dtype != query.dtype or value.dtype != query.dtype:
        raise ValueError(
            f"query, key and value are {query.dtype}, {key.dtype} and {value.dtype}, but the kernel takes three of one "
            "precision: fp16, bf16 or fp32; use attention 'fused'"
        )
    if query.shape[2] != rows.shape[-1] * columns.shape[-1]:
        raise ValueError(
            f"there are {query.shape[2]} patches, but rows and columns of a {rows.shape[-1]} x {columns.shape[-1]} grid"
        )
    query, key, value = (part if part.stride(-1) == 1 else part.contiguous() for part in (query, key, value))
    rows, columns, gate = (factor.float().contiguous() for factor in (rows, columns, gate))
    tracked = any(tensor.requires_grad for tensor in (query, key, value, rows, columns, gate))
    return _attend(query, key, value, rows, columns, gate, tracked and torch.is_grad_enabled())[0]


def check_runs(device: torch.device, head_dim: int) -> None:
    """Return where the kernel can run: on a CUDA device with Triton, or on any with TRITON_INTERPRET=1 (slow).

    Raises:
        ValueError: it can't, there or for heads of `head_dim` channels; the message says why.
    """
    if importlib.util.find_spec("triton") is None:
        raise ValueError("attention 'triton' needs a CUDA GPU and triton, which is not installed; use 'fused'")
    if device.type != "cuda" and not _interpreted():
        raise ValueError(f"attention 'triton' needs a CUDA GPU and triton, but the model is on {device}; use 'fused'")
    if head_dim > LARGEST_HEAD:
        raise ValueError(
            f"attention 'triton' takes heads of up to {LARGEST_HEAD} channels, but these have {head_dim}; use 'fused'"
        )


@torch.library.custom_op("convit::gated_attention", mutates_args=())
def _attend(
    query: Tensor, key: Tensor, value: Tensor, rows: Tensor, columns: Tensor, gate: Tensor, for_backward: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The result, and for the backward pass the content half and the log2 sums of exponentials (else empty)."""
    check_runs(query.device, query.shape[-1])
    out, content, log_sums = _empty_results(query, for_backward)
    kernels = _load_kernels(_interpreted())
    options = _options(query, key, value) | _windows(kernels, value, rows, columns)
    with torch.cuda.device_of(query):
        kernels.attend[_programs(query, "BLOCK_QUERIES")](
            query, key, value, rows, columns, gate, out, content, log_sums, **options, FOR_BACKWARD=for_backward
        )
    return out, content, log_sums


def _empty_results(query: Tensor, for_backward: bool) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, patches, head_dim = query.shape
    out = query.new_empty(batch, patches, heads * head_dim)
    if not for_backward:
        return out, query.new_empty(0), query.new_empty(0, dtype=torch.float32)
    return out, torch.empty_like(out), query.new_empty(batch, heads, patches, dtype=torch.float32)


_attend.register_fake(lambda query, *others: _empty_results(query, others[-1]))


@torch.library.custom_op("convit::gated_attention_backward", mutates_args=())
def _differentiate(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rows: Tensor,
    columns: Tensor,
    gate: Tensor,
    content: Tensor,
    log_sums: Tensor,
    grad: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query, key and value (batch, patches, heads, head_dim), and grad · content per query."""
    grad_query, grad_key, grad_value, dots = _empty_gradients(query, log_sums)
    kernels, options = _load_kernels(_interpreted()), _options(query, key, value)
    windows = _windows(kernels, value, rows, columns)
    with torch.cuda.device_of(query):
        kernels.query_gradient[_programs(query, "BLOCK_QUERIES")](
            query, key, value, gate, content, log_sums, grad, grad_query, dots, **options
        )
        kernels.key_value_gradient[_programs(query, "BLOCK_KEYS")](
            query, key, value, rows, columns, gate, log_sums, grad, dots, grad_key, grad_value, **options, **windows
        )
    return grad_query, grad_key, grad_value, dots


def _empty_gradients(query: Tensor, log_sums: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, heads, patches, head_dim = query.shape
    like_query, like_key, like_value = (query.new_empty(batch, patches, heads, head_dim) for _ in range(3))
    return like_query, like_key, like_value, torch.empty_like(log_sums)


_differentiate.register_fake(lambda query, *others: _empty_gradients(query, others[-2]))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, content, log_sums = output
    ctx.mark_non_differentiable(content, log_sums)
    ctx.save_for_backward(*inputs[:6], content, log_sums)


def _backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # which checkpointing gives only once
    value, rows, columns, gate = saved[2:6]
    grad = grad.contiguous()
    *gradients, dots = _differentiate(*saved, grad)
    by_rows, by_columns = _factor_gradients(grad, value, rows, columns)
    # the sum of grad · position is that of either factor's entries with their gradients, before the gate
    by_gate = (rows * by_rows).sum((1, 2)) - dots.sum((0, 2))
    share = gate[:, None, None]
    query_key_value = (part.transpose(1, 2) for part in gradients)
    return (*query_key_value, share * by_rows, share * by_columns, by_gate, None)


_attend.register_autograd(_backward, setup_context=_keep)


def _factor_gradients(grad: Tensor, value: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `rows` and `columns` as if every gate were 1; fp32."""
    grid = (rows.shape[-1], columns.shape[-1])
    grad = grad.unflatten(2, (value.shape[1], -1)).transpose(1, 2).unflatten(2, grid)
    value = value.unflatten(2, grid)
    read_in_row = torch.einsum("hxz,bhyzd->bhyxd", columns.to(value.dtype), value)
    by_rows = torch.einsum("bhyxd,bhzxd->bhyz", grad, read_in_row)
    read_in_column = torch.einsum("hyz,bhzxd->bhyxd", rows.to(value.dtype), value)
    by_columns = torch.einsum("bhyxd,bhyzd->bhyxz", grad, read_in_column)
    return by_rows.sum(0, dtype=torch.float32), by_columns.sum((0, 2), dtype=torch.float32)


def _options(query: Tensor, key: Tensor, value: Tensor) -> dict[str, Any]:
    """What every kernel is told of the layout and sizes."""
    _, heads, patches, head_dim = query.shape
    return {
        "query_strides": query.stride()[:3],
        "key_strides": key.stride()[:3],
        "value_strides": value.stride()[:3],
        "scale": head_dim**-0.5 * math.log2(math.e),
        "heads": heads,
        "patches": patches,
        "size_class": _power_of_two(patches),  # tuned once per class, not for every image size
        "HEAD_DIM": head_dim,
        "BLOCK_DIM": _power_of_two(head_dim),
        "enable_fp_fusion": True,  # Triton's default until 3.10, which warns unless it is said
    }


def _windows(kernels: ModuleType, value: Tensor, rows: Tensor, columns: Tensor) -> dict[str, Any]:
    """The grid, and how many of its rows and columns a block of keys can touch."""
    height, width = rows.shape[-1], columns.shape[-1]
    block = kernels.LARGEST_KEY_BLOCK
    return {
        "height": height,
        "width": width,
        "ROW_WINDOW": _power_of_two(min(height, (block + width - 2) // width + 1)),
        "COLUMN_WINDOW": _power_of_two(min(width, block)),
        "WRAPPED": width > block,
        "FACTOR": kernels.tl.float32 if value.dtype == torch.float32 else kernels.tl.float16,
    }


def _power_of_two(size: int) -> int:
    """The next power of two, at least 16: the shortest product that tensor cores take."""
    return max(16, 1 << (size - 1).bit_length())


def _programs(query: Tensor, block: str) -> Any:
    """The launch grid: one program per block of patches, head and image, a head's blocks side by side."""
    batch, heads, patches, _ = query.shape
    return lambda chosen: (-(-patches // chosen[block]) * heads * batch,)


def _interpreted() -> bool:
    from triton import knobs

    return knobs.runtime.interpret


@functools.cache
def _load_kernels(interpreted: bool) -> ModuleType:
    """The Triton functions; a copy of their own for the interpreter, since decorators choose once and for all."""
    if not interpreted:
        return importlib.import_module(_KERNELS)
    spec = importlib.util.find_spec(_KERNELS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
