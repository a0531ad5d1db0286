"""The Triton kernel against its plain twin in Triton's interpreter on a CPU, and compiled for Hopper without one."""

import re
import subprocess
from pathlib import Path

import pytest
import torch

from convit.model import ConViT, ConViTConfig, plain
from convit.model.kernels import check_runs, fused_gated_attention, gated_attention
from convit.model.positional import axis_attention
from convit.optimization import building, fastest_attention
from tests.shaken import relative_error, shake

triton = pytest.importorskip("triton")

SMALL = ConViTConfig(img_size=32, patch_size=8, num_heads=4, embed_dim=12, depth=3, local_up_to_layer=2, num_classes=5)
# the interpreter rounds to bf16 by cutting bits off, a GPU to the nearest: half of this
TOLERANCE = {torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}
NAMES = ("query", "key", "value", "rows", "columns", "gate")
SHARED_MEMORY = 227 * 1024  # bytes that one block of threads may use on compute capability 9.0


interpreted = pytest.mark.usefixtures("triton_interpreter")


def _inputs(grid: tuple[int, int], head_dim: int, dtype: torch.dtype, batch: int = 1, heads: int = 2, width=1.0):
    """Query, key and value as views of their projections, both factors (wide or narrow), gates 0, 1 and between."""
    patches = grid[0] * grid[1]
    query_key, value = (torch.randn(batch, patches, times * heads * head_dim).to(dtype) for times in (2, 1))
    parts = [part.unflatten(-1, (heads, head_dim)).transpose(1, 2) for part in (*query_key.chunk(2, dim=-1), value)]
    linear_x, linear_y, quadratic = torch.randn(3, heads) / width
    factors = [
        axis_attention(linear, -quadratic.abs(), torch.zeros(heads), length)
        for linear, length in zip((linear_y, linear_x), grid, strict=True)
    ]
    return [*parts, *factors, torch.rand(heads)]


def _twin(query, key, value, rows, columns, gate) -> torch.Tensor:
    position = torch.einsum("hyz,hxw->hyxzw", rows, columns).flatten(3).flatten(1, 2)
    read = plain.gated_attention(plain.content_attention(query, key), position, gate) @ value
    return read.transpose(1, 2).flatten(2)


def _compare(inputs: list[torch.Tensor], slack: float = 1.0) -> list[torch.Tensor]:
    """Outputs and gradients against the twin in fp64; gives the gradients."""
    dtype = inputs[0].dtype
    tolerance = slack * TOLERANCE[dtype]
    ours = [part.detach().requires_grad_() for part in inputs]
    exact = [part.detach().double().requires_grad_() for part in inputs]
    read, reference = fused_gated_attention(*ours), _twin(*exact)
    assert (read.dtype, read.is_contiguous()) == (dtype, True)
    assert relative_error(read, reference) < tolerance
    direction = torch.randn_like(reference).to(read)
    read.backward(direction)
    reference.backward(direction.double())
    for name, part, twin in zip(NAMES, ours, exact, strict=True):
        assert part.grad.dtype == part.dtype
        if name == "gate":  # the difference of two large sums: judged by their terms
            halves = [_twin(*exact[:5], share) for share in (torch.zeros_like(twin), torch.ones_like(twin))]
            terms = [direction * half for half in halves]
            assert (part.grad - twin.grad).norm() < tolerance * sum(term.norm() for term in terms)
        elif twin.grad.norm() < 1e-9:  # nothing to learn: one patch, or a gate that is shut
            assert part.grad.norm() < tolerance, name
        else:
            assert relative_error(part.grad, twin.grad) < tolerance, name
    return [part.grad for part in ours]


@interpreted
@pytest.mark.parametrize(
    ("grid", "head_dim", "heads"),
    [((7, 28), 48, 1), ((14, 14), 64, 1), ((16, 16), 8, 1), ((2, 133), 27, 1), ((70, 2), 16, 1), ((6, 11), 100, 2)],
)
def test_outputs_and_gradients_on_any_grid(grid: tuple[int, int], head_dim: int, heads: int) -> None:
    _compare(_inputs(grid, head_dim, torch.float32, heads=heads))


@interpreted
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("grid", "head_dim"), [((5, 3), 27), ((1, 9), 8), ((6, 11), 48), ((5, 13), 64), ((1, 1), 16)])
def test_each_precision_and_odd_tails(dtype: torch.dtype, grid: tuple[int, int], head_dim: int) -> None:
    _compare(_inputs(grid, head_dim, dtype, batch=2, heads=3 if head_dim < 48 else 1))


@interpreted
@pytest.mark.parametrize("width", [0.05, 100.0])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_closed_and_open_gates_with_narrow_and_wide_places(dtype: torch.dtype, width: float) -> None:
    inputs = _inputs((5, 7), 16, dtype, heads=3, width=width)
    inputs[-1] = torch.tensor([0.0, 1.0, 0.5])
    query, key, _, rows, columns, _ = _compare(inputs)
    assert query[:, 1].abs().max() == key[:, 1].abs().max() == 0  # no content is read
    assert rows[0].abs().max() == columns[0].abs().max() == 0  # no place counts


@pytest.mark.parametrize("width", [1, 2, 3, 7, 14, 63, 64, 65, 127, 128, 129, 300])
def test_the_windows_hold_what_the_largest_block_of_keys_touches(width: int) -> None:
    kernels = gated_attention._load_kernels(False)
    factors = (torch.empty(1, length, length) for length in (1000, width))
    windows = gated_attention._windows(kernels, torch.empty(0), *factors)
    touched = [(first + kernels.LARGEST_KEY_BLOCK - 1) // width - first // width + 1 for first in range(2 * width)]
    assert max(touched) <= windows["ROW_WINDOW"] <= max(16, 2 * max(touched))
    assert min(width, kernels.LARGEST_KEY_BLOCK) <= windows["COLUMN_WINDOW"]
    assert windows["WRAPPED"] == (width > windows["COLUMN_WINDOW"])
    tuners = (kernels.attend, kernels.query_gradient, kernels.key_value_gradient)
    blocks = [config.kwargs["BLOCK_KEYS"] for tuner in tuners for config in tuner.configs]
    assert max(blocks) == kernels.LARGEST_KEY_BLOCK


@interpreted
def test_large_scores_neither_overflow_nor_vanish() -> None:
    inputs = _inputs((4, 10), 16, torch.float32)
    inputs[0] = inputs[0] * 100
    _compare(inputs, slack=100)


@interpreted
def test_any_strides_are_read_and_nothing_is_kept_without_gradients() -> None:
    inputs = _inputs((4, 5), 16, torch.float32)
    expected = _twin(*inputs)
    inputs[0] = inputs[0].transpose(2, 3).contiguous().transpose(2, 3)  # channels are not side by side
    inputs[2] = torch.cat((inputs[2], inputs[2]), dim=1)[:, :2]
    torch.testing.assert_close(fused_gated_attention(*inputs), expected)
    assert [part.numel() for part in torch.ops.convit.gated_attention(*inputs, False)[1:]] == [0, 0]


@interpreted
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck's own doing
def test_the_operator_is_as_pytorch_wants_it() -> None:
    inputs = [part.detach().requires_grad_() for part in _inputs((3, 4), 16, torch.float32)]
    torch.library.opcheck(torch.ops.convit.gated_attention.default, (*inputs, True))


@interpreted
@pytest.mark.compiled
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiles_as_one_graph(backend: str) -> None:
    eager, layer = (ConViT(SMALL).blocks[0].attn for _ in range(2))
    layer.load_state_dict(eager.state_dict())
    layer.kernel = True
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    tokens = torch.randn(2, 15, SMALL.dim)
    results = [each(tokens, (3, 5)) for each in (compiled, eager)]
    torch.testing.assert_close(*results)
    for result in results:
        result.square().sum().backward()
    for ours, reference in zip(layer.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, reference.grad, atol=1e-5, rtol=1e-4)


@interpreted
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_model_computes_the_same(checkpointing: bool) -> None:
    fused, model = ConViT(SMALL), ConViT(SMALL)
    shake(fused)
    model.load_state_dict(fused.state_dict())
    model.set_attention("triton")
    assert not model.plain
    model.set_grad_checkpointing(checkpointing)
    images = torch.randn(2, 3, 24, 56)
    results = [each(images) for each in (model, fused)]
    torch.testing.assert_close(*results)
    for result in results:
        result.square().sum().backward()
    for ours, reference in zip(model.parameters(), fused.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, reference.grad, atol=2e-5, rtol=1e-3)
    model.set_attention("fused")
    assert not any(block.attn.kernel for block in model.blocks if block.is_local)


@interpreted
def test_autocast() -> None:
    model = ConViT(SMALL).eval()
    images = torch.randn(2, 3, 32, 32)
    exact = model(images)
    model.set_attention("triton")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(images).float(), exact, atol=0.02, rtol=0.05)


def test_attention_dropout_in_training_takes_the_plain_form() -> None:
    model = ConViT(SMALL.replace(attn_drop_rate=0.1))
    for block in model.blocks[:2]:
        block.attn.kernel = True
    assert model(torch.randn(1, 3, 32, 32)).shape == (1, 5)
    with pytest.raises(ValueError, match="needs a CUDA GPU and triton, but the model is on cpu"):
        model.eval()(torch.randn(1, 3, 32, 32))


def test_it_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ConViT(SMALL)
    with pytest.raises(ValueError, match="'triton' needs a CUDA GPU and triton, but the model is on cpu; use 'fused'"):
        model.set_attention("triton")
    with pytest.raises(ValueError, match="heads of up to 128 channels, but these have 129"):
        check_runs(torch.device("cuda"), 129)
    with pytest.raises(ValueError, match="'flash', but must be 'fused', 'triton' or 'plain'"):
        model.set_attention("flash")
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ValueError, match="triton, which is not installed"):
        check_runs(torch.device("cuda"), 64)
    assert not any(block.attn.kernel for block in model.blocks if block.is_local)


def test_mixed_precisions_and_grids_are_refused() -> None:
    inputs = _inputs((3, 4), 16, torch.float32)
    with pytest.raises(ValueError, match=r"torch.float64.* fp16, bf16 or fp32; use attention 'fused'"):
        fused_gated_attention(*(part.double() for part in inputs))
    with pytest.raises(ValueError, match=r"torch.float32, torch.bfloat16 and torch.float32"):
        fused_gated_attention(inputs[0], inputs[1].bfloat16(), *inputs[2:])
    with pytest.raises(ValueError, match="12 patches, but rows and columns of a 3 x 3 grid"):
        fused_gated_attention(*inputs[:4], inputs[3], inputs[5])


@pytest.mark.parametrize("head_dim", [48, 64])
@pytest.mark.parametrize("name", ["attend", "query_gradient", "key_value_gradient"])
def test_compiled_for_hopper_no_register_is_spilled(name: str, head_dim: int, tmp_path: Path) -> None:
    with triton.knobs.cache.scope():
        triton.knobs.cache.dir = str(tmp_path)
        compiled = _compile_for_hopper(name, head_dim)
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    tools = [[triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage"], [triton.knobs.nvidia.nvdisasm.path]]
    usage, code = (subprocess.run([*t, cubin], capture_output=True, text=True, check=True).stdout for t in tools)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, usage
    assert (int(found[1]) < 255, int(found[2])) == (True, 0), usage
    assert compiled.metadata.shared <= SHARED_MEMORY // 2  # two blocks of threads at a time
    assert "HGMMA" in code  # Hopper's tensor cores
    assert re.search(r"\bHMMA", code) is None  # those of older GPUs
    assert "LDGSTS" in code  # asynchronous copies
    assert re.search(r"\b(LDL|STL)", code) is None  # memory of spilled registers


def _compile_for_hopper(name: str, head_dim: int):
    """The kernel as launched for bf16 and a 14 x 14 grid, with its first choice of blocks."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    query = torch.empty(8, 196, 2 * 16 * head_dim, dtype=torch.bfloat16, device="meta")
    query = query[..., : 16 * head_dim].unflatten(2, (16, head_dim)).transpose(1, 2)
    kernels = gated_attention._load_kernels(False)
    options = gated_attention._options(query, query, query)
    options |= gated_attention._windows(kernels, query, *(torch.empty(16, 14, 14) for _ in range(2)))
    tuner = getattr(kernels, name)
    options |= tuner.configs[0].all_kwargs() | {"FOR_BACKWARD": True}
    whole = ("rows", "columns", "gate", "log_sums", "content_dots")  # fp32
    signature, constants, attributes = {}, {}, {}
    for place, argument in enumerate(tuner.fn.arg_names):
        if argument.isupper():
            signature[argument], constants[(place,)] = "constexpr", options[argument]
        elif argument.endswith("_strides"):
            signature[argument] = ("i32",) * 3
            attributes |= {(place, axis): [["tt.divisibility", 16]] for axis in range(3)}
        elif argument in options:
            signature[argument] = "fp32" if argument == "scale" else "i32"
        else:
            signature[argument] = "*fp32" if argument in whole else "*bf16"
            attributes[(place,)] = [["tt.divisibility", 16]]
    return triton.compile(
        ASTSource(tuner.fn, signature, constants, attributes),
        target=GPUTarget("cuda", 90, 32),
        options={key: options[key] for key in ("num_warps", "num_stages", "enable_fp_fusion")},
    )


class _OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    device = torch.device("cuda")


def test_the_form_is_chosen_by_what_was_timed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model, images = ConViT(SMALL).eval(), torch.empty(4, 3, 30, 56)
    assert fastest_attention(model, images) == "fused"  # on a CPU
    on_gpu = images.as_subclass(_OnGpu)
    seconds = {"fused": [2.0, 0.5, 2.0], "triton": [1.0, 1.0, 9.0]}
    given = {"fused": torch.ones(3), "triton": 1.01 * torch.ones(3)}
    monkeypatch.setattr(building, "_run_of", lambda _layer, form, *_: lambda: given[form])
    monkeypatch.setattr(building, "alternate", lambda calls, *_: {name: seconds[name] for name in calls})
    assert fastest_attention(model, on_gpu) == "triton"
    assert caplog.messages == []
    given["triton"] = -given["fused"]
    assert fastest_attention(model, on_gpu) == "fused"
    del given["triton"]
    assert fastest_attention(model, on_gpu) == "fused"
    assert caplog.messages == [
        "the Triton kernel gives other values on cuda; attention is fused",
        "the Triton kernel does not run on cuda ('triton'); attention is fused",
    ]
    given["triton"], seconds["fused"] = given["fused"], [1.0, 1.0, 1.0]
    assert fastest_attention(model, on_gpu) == "fused"
    seconds["fused"] = [2.0]
    for unfit in (SMALL.replace(embed_dim=130), SMALL.replace(local_up_to_layer=0)):
        assert fastest_attention(ConViT(unfit), on_gpu) == "fused"
    assert fastest_attention(ConViT(SMALL.replace(attn_drop_rate=0.1)), on_gpu) == "fused"
    assert fastest_attention(model.double(), on_gpu) == "fused"


@interpreted
@pytest.mark.parametrize("training", [False, True])
def test_timing_leaves_the_layer_as_it_was(training: bool) -> None:
    layer = ConViT(SMALL).train(training).blocks[0].attn
    layer.plain, taken = True, []
    layer.proj.register_forward_pre_hook(lambda *_: taken.append((layer.plain, layer.kernel)))
    tokens = torch.randn(2, 12, layer.dim)
    runs = [building._run_of(layer, form, tokens, (3, 4)) for form in ("fused", "triton")]
    torch.testing.assert_close(*(run() for run in runs))
    assert taken == [(True, False)] * 2
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.parametrize(("form", "kernel"), [("fused", False), ("triton", True)])
def test_each_form_is_timed_as_itself(form: str, kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = ConViT(SMALL).eval().blocks[0].attn
    layer.plain, taken = True, []
    monkeypatch.setattr(type(layer), "forward", lambda self, *_: taken.append((self.plain, self.kernel)))
    building._run_of(layer, form, torch.randn(2, 12, layer.dim), (3, 4))()
    assert taken == [(False, kernel)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("grid", "head_dim"), [((14, 14), 48), ((7, 28), 64), ((32, 32), 64), ((2, 133), 27)])
def test_on_a_gpu(dtype: torch.dtype, grid: tuple[int, int], head_dim: int) -> None:
    _compare([part.cuda() for part in _inputs(grid, head_dim, dtype, batch=2, heads=4)])
