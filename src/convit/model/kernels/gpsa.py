"""Gated positional self-attention in Triton: the forward kernel and the two of the backward pass.

Each program owns one block of queries (or keys) of one head and walks over the other side, so that no patches x patches
matrix reaches memory. Imports Triton: load it through `convit.model.kernels.gated_attention` alone.

The position weight of (query, key) is rows[query's row, key's row] * columns[query's column, key's column]. To gather
two numbers per pair would cost more than the tensor cores' work on the pair, so the keys' rows and columns are written
as one-hot matrices and each factor is spread over the pairs by a narrow matrix product, exact but for the factor's own
rounding: 11 bits with half-precision values (fp16, with bf16 values too), 24 with fp32.

Block sizes, warps and stages are few: 64 rows for each group of 4 warps, as Hopper's tensor cores want, and small
blocks for fp32, which multiplies outside of them. Which is fastest is timed at the first call. Compiled for compute
capability 9.0, every product of bf16 heads of 48 and 64 channels is one of Hopper's own (wgmma) and no register is
spilled, which a test checks; nothing was timed on a GPU yet.
"""
# Triton's language has no types that a checker could follow; its compile-time arguments are written in capitals.
# pyright: basic, reportArgumentType=false
# ruff: noqa: N803

import triton
import triton.language as tl
from triton import knobs

# Triton's interpreter multiplies bf16 numbers as the integers that hold their bits; widening changes no product.
WIDEN = tl.constexpr(knobs.runtime.interpret)
FOR_FP32 = triton.Config({"BLOCK_QUERIES": 32, "BLOCK_KEYS": 32}, num_warps=8, num_stages=2)


def tuned(*choices: tuple[int, int, int, int]):
    """A decorator that times choices of (queries, keys, warps, stages) once per power of two of patches.

    Triton's interpreter, which can't time, takes blocks of which even small grids need several, of unlike sizes.
    """
    configs = [
        triton.Config({"BLOCK_QUERIES": queries, "BLOCK_KEYS": keys}, num_warps=warps, num_stages=stages)
        for queries, keys, warps, stages in choices
    ]
    if knobs.runtime.interpret:
        configs = [triton.Config({"BLOCK_QUERIES": 64, "BLOCK_KEYS": 32})]
    return triton.autotune(
        configs,
        key=["size_class", "HEAD_DIM"],
        prune_configs_by={
            "early_config_prune": lambda configs, arguments, **_: (
                [FOR_FP32] if arguments["query"].element_size() == 4 else configs
            )
        },
    )


LARGEST_KEY_BLOCK = 128  # of all choices below; the windows of position factors are sized by it


@triton.jit
def product(left, right, sums):
    """`sums + left @ right` with sums in fp32; fp32 operands are multiplied in full precision, not as TF32."""
    if WIDEN:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    return tl.dot(left, right, sums, input_precision="ieee")


@triton.jit
def load_tokens(base, stride, tokens, channels, patches, HEAD_DIM: tl.constexpr):
    """A block of tokens of one head (tokens x channels), zeros beyond the last token and channel."""
    inside = (tokens[:, None] < patches) & (channels[None, :] < HEAD_DIM)
    return tl.load(base + tokens.to(tl.int64)[:, None] * stride + channels[None, :], mask=inside, other=0.0)


@triton.jit
def store_tokens(base, stride, tokens, channels, patches, block, HEAD_DIM: tl.constexpr):
    """Write a block of tokens of one head, rounded to the memory's precision."""
    inside = (tokens[:, None] < patches) & (channels[None, :] < HEAD_DIM)
    pointers = base + tokens.to(tl.int64)[:, None] * stride + channels[None, :]
    tl.store(pointers, block.to(base.dtype.element_ty), mask=inside)


@triton.jit
def row_factor(rows, queries, first_key, patches, height, width, WINDOW: tl.constexpr, FACTOR: tl.constexpr):
    """Weights of the grid rows that a block of keys touches, per query, from the first key's on: queries x WINDOW."""
    place = first_key // width + tl.arange(0, WINDOW)
    inside = (queries[:, None] < patches) & (place[None, :] < height)
    return tl.load(rows + (queries // width)[:, None] * height + place[None, :], mask=inside, other=0.0).to(FACTOR)


@triton.jit
def column_place(first_key, width, WINDOW: tl.constexpr, WRAPPED: tl.constexpr):
    """The grid columns in a window: all of them, or, where the grid is wider, those from the first key's on."""
    window = tl.arange(0, WINDOW)
    if WRAPPED:
        window = (first_key + window) % width
    return window


@triton.jit
def column_factor(columns, queries, places, patches, width, FACTOR: tl.constexpr):
    """Weights of the columns of a window, per query: queries x window."""
    inside = (queries[:, None] < patches) & (places[None, :] < width)
    return tl.load(columns + (queries % width)[:, None] * width + places[None, :], mask=inside, other=0.0).to(FACTOR)


@triton.jit
def row_places(keys, first_key, width, WINDOW: tl.constexpr):
    """Whether a key lies in a row of the window that `row_factor` starts at the first key's: keys x WINDOW."""
    window = first_key // width + tl.arange(0, WINDOW)
    return window[None, :] == (keys // width)[:, None]


@tuned((64, 64, 4, 2), (64, 64, 4, 3), (128, 64, 8, 2), (64, 32, 4, 3))
@triton.jit(do_not_specialize=["size_class"])
def attend(
    query,
    key,
    value,
    rows,
    columns,
    gate,
    out,
    content_out,
    log_sums,
    query_strides,
    key_strides,
    value_strides,
    scale,
    heads,
    patches,
    height,
    width,
    size_class,
    HEAD_DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    ROW_WINDOW: tl.constexpr,
    COLUMN_WINDOW: tl.constexpr,
    WRAPPED: tl.constexpr,
    FACTOR: tl.constexpr,
    FOR_BACKWARD: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
):
    """Write (1 - gate) softmax(q k^T scale) v + gate (rows ⊗ columns) v to `out`; `scale` includes log2(e).

    With FOR_BACKWARD also writes the content half and each query's log2 of the sum of exponentials.
    """
    blocks = (patches + BLOCK_QUERIES - 1) // BLOCK_QUERIES
    image_head = tl.program_id(0) // blocks
    image = (image_head // heads).to(tl.int64)
    head = image_head % heads
    queries = (tl.program_id(0) % blocks) * BLOCK_QUERIES + tl.arange(0, BLOCK_QUERIES)
    channels = tl.arange(0, BLOCK_DIM)
    rows += head * height * height
    columns += head * width * width
    key += image * key_strides[0] + head * key_strides[1]
    value += image * value_strides[0] + head * value_strides[1]
    query += image * query_strides[0] + head * query_strides[1]
    query_block = load_tokens(query, query_strides[2], queries, channels, patches, HEAD_DIM)
    places = column_place(0, width, COLUMN_WINDOW, WRAPPED)
    by_column = column_factor(columns, queries, places, patches, width, FACTOR)

    largest = tl.full([BLOCK_QUERIES], float("-inf"), tl.float32)
    total = tl.full([BLOCK_QUERIES], 0.0, tl.float32)
    content = tl.full([BLOCK_QUERIES, BLOCK_DIM], 0.0, tl.float32)
    position = tl.full([BLOCK_QUERIES, BLOCK_DIM], 0.0, tl.float32)
    zeros = tl.full([BLOCK_QUERIES, BLOCK_KEYS], 0.0, tl.float32)
    for first_key in range(0, patches, BLOCK_KEYS):
        keys = first_key + tl.arange(0, BLOCK_KEYS)
        key_block = load_tokens(key, key_strides[2], keys, channels, patches, HEAD_DIM)
        value_block = load_tokens(value, value_strides[2], keys, channels, patches, HEAD_DIM)
        logits = product(query_block, tl.trans(key_block), zeros) * scale
        logits = tl.where(keys[None, :] < patches, logits, float("-inf"))
        larger = tl.maximum(largest, tl.max(logits, 1))
        weights = tl.exp2(logits - larger[:, None])
        fade = tl.exp2(largest - larger)
        total = total * fade + tl.sum(weights, 1)
        content = product(weights.to(value_block.dtype), value_block, content * fade[:, None])
        largest = larger
        by_row = row_factor(rows, queries, first_key, patches, height, width, ROW_WINDOW, FACTOR)
        if WRAPPED:
            places = column_place(first_key, width, COLUMN_WINDOW, WRAPPED)
            by_column = column_factor(columns, queries, places, patches, width, FACTOR)
        in_row = row_places(keys, first_key, width, ROW_WINDOW).to(FACTOR)
        in_column = (places[None, :] == (keys % width)[:, None]).to(FACTOR)
        weights = product(by_row, tl.trans(in_row), zeros) * product(by_column, tl.trans(in_column), zeros)
        position = product(weights.to(value_block.dtype), value_block, position)

    content /= total[:, None]
    share = tl.load(gate + head)
    start = (image * patches * heads + head) * HEAD_DIM
    blended = (1.0 - share) * content + share * position
    store_tokens(out + start, heads * HEAD_DIM, queries, channels, patches, blended, HEAD_DIM)
    if FOR_BACKWARD:
        store_tokens(content_out + start, heads * HEAD_DIM, queries, channels, patches, content, HEAD_DIM)
        line = image_head.to(tl.int64) * patches
        tl.store(log_sums + line + queries, largest + tl.log2(total), mask=queries < patches)


@tuned((64, 64, 4, 2), (64, 64, 4, 3), (128, 64, 8, 2), (64, 32, 4, 3))
@triton.jit(do_not_specialize=["size_class"])
def query_gradient(
    query,
    key,
    value,
    gate,
    content,
    log_sums,
    grad,
    grad_query,
    content_dots,
    query_strides,
    key_strides,
    value_strides,
    scale,
    heads,
    patches,
    size_class,
    HEAD_DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
):
    """The queries' gradient, and each query's grad · content, which the keys' gradient and the gate's need as well."""
    blocks = (patches + BLOCK_QUERIES - 1) // BLOCK_QUERIES
    image_head = tl.program_id(0) // blocks
    image = (image_head // heads).to(tl.int64)
    head = image_head % heads
    queries = (tl.program_id(0) % blocks) * BLOCK_QUERIES + tl.arange(0, BLOCK_QUERIES)
    channels = tl.arange(0, BLOCK_DIM)
    start = (image * patches * heads + head) * HEAD_DIM
    line = image_head.to(tl.int64) * patches
    key += image * key_strides[0] + head * key_strides[1]
    value += image * value_strides[0] + head * value_strides[1]
    query += image * query_strides[0] + head * query_strides[1]
    query_block = load_tokens(query, query_strides[2], queries, channels, patches, HEAD_DIM)
    grad_block = load_tokens(grad + start, heads * HEAD_DIM, queries, channels, patches, HEAD_DIM)
    content_block = load_tokens(content + start, heads * HEAD_DIM, queries, channels, patches, HEAD_DIM)
    dots = tl.sum(grad_block.to(tl.float32) * content_block.to(tl.float32), 1)
    tl.store(content_dots + line + queries, dots, mask=queries < patches)
    log_sum = tl.load(log_sums + line + queries, mask=queries < patches, other=float("inf"))

    gradient = tl.full([BLOCK_QUERIES, BLOCK_DIM], 0.0, tl.float32)
    zeros = tl.full([BLOCK_QUERIES, BLOCK_KEYS], 0.0, tl.float32)
    for first_key in range(0, patches, BLOCK_KEYS):
        keys = first_key + tl.arange(0, BLOCK_KEYS)
        key_block = load_tokens(key, key_strides[2], keys, channels, patches, HEAD_DIM)
        value_block = load_tokens(value, value_strides[2], keys, channels, patches, HEAD_DIM)
        logits = product(query_block, tl.trans(key_block), zeros) * scale
        weights = tl.exp2(tl.where(keys[None, :] < patches, logits, float("-inf")) - log_sum[:, None])
        grad_weights = product(grad_block, tl.trans(value_block), zeros)
        grad_scores = weights * (grad_weights - dots[:, None])
        gradient = product(grad_scores.to(key_block.dtype), key_block, gradient)
    gradient *= (1.0 - tl.load(gate + head)) * scale * 0.6931471805599453  # ln 2 takes log2(e) out of the scale
    store_tokens(grad_query + start, heads * HEAD_DIM, queries, channels, patches, gradient, HEAD_DIM)


@tuned((64, 64, 8, 2), (32, 64, 4, 2), (64, 128, 8, 2))
@triton.jit(do_not_specialize=["size_class"])
def key_value_gradient(
    query,
    key,
    value,
    rows,
    columns,
    gate,
    log_sums,
    grad,
    content_dots,
    grad_key,
    grad_value,
    query_strides,
    key_strides,
    value_strides,
    scale,
    heads,
    patches,
    height,
    width,
    size_class,
    HEAD_DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    ROW_WINDOW: tl.constexpr,
    COLUMN_WINDOW: tl.constexpr,
    WRAPPED: tl.constexpr,
    FACTOR: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
):
    """The keys' and values' gradients; reads what `query_gradient` wrote to `content_dots`."""
    blocks = (patches + BLOCK_KEYS - 1) // BLOCK_KEYS
    image_head = tl.program_id(0) // blocks
    image = (image_head // heads).to(tl.int64)
    head = image_head % heads
    first_key = (tl.program_id(0) % blocks) * BLOCK_KEYS
    keys = first_key + tl.arange(0, BLOCK_KEYS)
    channels = tl.arange(0, BLOCK_DIM)
    start = (image * patches * heads + head) * HEAD_DIM
    line = image_head.to(tl.int64) * patches
    rows += head * height * height
    columns += head * width * width
    query += image * query_strides[0] + head * query_strides[1]
    key += image * key_strides[0] + head * key_strides[1]
    value += image * value_strides[0] + head * value_strides[1]
    key_block = load_tokens(key, key_strides[2], keys, channels, patches, HEAD_DIM)
    value_block = load_tokens(value, value_strides[2], keys, channels, patches, HEAD_DIM)
    places = column_place(first_key, width, COLUMN_WINDOW, WRAPPED)
    in_row = row_places(keys, first_key, width, ROW_WINDOW).to(FACTOR)
    in_column = (places[None, :] == (keys % width)[:, None]).to(FACTOR)
    zeros = tl.full([BLOCK_KEYS, BLOCK_QUERIES], 0.0, tl.float32)
    share = tl.load(gate + head)

    key_gradient = tl.full([BLOCK_KEYS, BLOCK_DIM], 0.0, tl.float32)
    value_gradient = tl.full([BLOCK_KEYS, BLOCK_DIM], 0.0, tl.float32)
    for first_query in range(0, patches, BLOCK_QUERIES):
        queries = first_query + tl.arange(0, BLOCK_QUERIES)
        query_block = load_tokens(query, query_strides[2], queries, channels, patches, HEAD_DIM)
        grad_block = load_tokens(grad + start, heads * HEAD_DIM, queries, channels, patches, HEAD_DIM)
        log_sum = tl.load(log_sums + line + queries, mask=queries < patches, other=float("inf"))
        dots = tl.load(content_dots + line + queries, mask=queries < patches, other=0.0)
        # keys x queries from the start, so that the weights are left operands without a transposition
        weights = tl.exp2(product(key_block, tl.trans(query_block), zeros) * scale - log_sum[None, :])
        by_row = row_factor(rows, queries, first_key, patches, height, width, ROW_WINDOW, FACTOR)
        by_column = column_factor(columns, queries, places, patches, width, FACTOR)
        position = product(in_row, tl.trans(by_row), zeros) * product(in_column, tl.trans(by_column), zeros)
        blended = (1.0 - share) * weights + share * position
        value_gradient = product(blended.to(grad_block.dtype), grad_block, value_gradient)
        grad_weights = product(value_block, tl.trans(grad_block), zeros)
        grad_scores = weights * (grad_weights - dots[None, :])
        key_gradient = product(grad_scores.to(query_block.dtype), query_block, key_gradient)
    key_gradient *= (1.0 - share) * scale * 0.6931471805599453  # ln 2 takes log2(e) out of the scale
    store_tokens(grad_key + start, heads * HEAD_DIM, keys, channels, patches, key_gradient, HEAD_DIM)
    store_tokens(grad_value + start, heads * HEAD_DIM, keys, channels, patches, value_gradient, HEAD_DIM)
