"""Who takes part: how it is written, what it is, and what is refused."""

import builtins
import dataclasses
from typing import Any

import pytest
import torch

from convit.benchmark import measure
from convit.benchmark.building import build_entry, build_reference, make_images, weights_of
from convit.benchmark.candidates import default_candidates, our_candidate, parse_candidate
from convit.benchmark.cases import Case, make_cases, peer_precision
from convit.benchmark.cost import count_cost, count_peer_cost
from convit.model.layers import Block
from tests.benchmark.small import NANO, small_case
from tests.shaken import relative_error

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "model", "relation", "precision", "compiled", "amp"),
    [
        ("timm:convit_base", "convit_base", "equal", None, False, False),
        ("timm:convit_base.fb_in1k+compile", "convit_base", "equal", None, True, False),
        ("timm:convit_base+amp+compile", "convit_base.fb_in1k", "equal", None, True, True),
        ("timm:convit_tiny", "convit_base", "another", None, False, False),
        ("timm:deit_base_patch16_224@bf16", "convit_base", "another", "bf16", False, False),
        ("torchvision:vit_b_16", "convit_base", "another", None, False, False),
        ("eager@fp16", "convit_tiny", "equal", "fp16", False, False),
        ("plain+compile", "convit_tiny", "equal", None, True, False),
        ("ours@int8", "convit_tiny", "equal", "int8", False, False),
    ],
)
def test_a_candidate_is_read(text: str, model: str, relation: str, precision: Any, compiled: bool, amp: bool) -> None:
    found = parse_candidate(text, model)
    assert (found.name, found.relation, found.precision, found.compiled, found.amp) == (
        text,
        relation,
        precision,
        compiled,
        amp,
    )
    assert found.is_peer == (":" in text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("timn:convit_base", "unknown candidate 'timn:convit_base'; write NAME"),
        ("timm:", "unknown candidate 'timm:'"),
        ("eger", "unknown candidate 'eger'; write NAME.* eager, triton.*; did you mean 'eager'"),
        ("eager+fast", r"has \+fast, but a candidate can be followed by \+amp and \+compile"),
        ("eager@int8", "asks for 'int8', but eager can run in fp32, bf16, fp16"),
        ("plain+amp", "which is for other libraries' models"),
    ],
)
def test_a_candidate_written_wrongly_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_candidate(text, "convit_base")


def test_who_suits_a_model() -> None:
    assert default_candidates("convit_small.fb_in1k") == ("eager", "timm:convit_small", "timm:deit_small_patch16_224")
    assert default_candidates(NANO) == ("eager", "plain")


def test_a_peer_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    case = small_case(against=("timm:resnet18",))

    def missing(name: str, *rest: Any) -> Any:
        if name == "timm":
            raise ModuleNotFoundError("No module named 'timm'", name="timm")
        return original(name, *rest)

    original = builtins.__import__
    monkeypatch.setattr("convit.training.peers.import_module", missing)
    with pytest.raises(ImportError, match=r"timm:resnet18 needs the package 'timm'; install it with: pip install timm"):
        build_entry(case, case.candidates()[1], build_reference(case))


def test_equal_candidates_have_equal_weights_and_outputs() -> None:
    """timm's ConViT, cut to the nano model's shape by its own options."""
    case = Case("convit_tiny", ("timm:convit_tiny", "plain", "eager"), device="cpu", batch=1, size=(32, 32))
    reference = build_reference(case)
    images = make_images(case, reference)
    with torch.inference_mode():
        expected = reference(images)
        for candidate in case.candidates():
            entry = build_entry(case, candidate, reference)
            assert relative_error(entry.module(images), expected) < 1e-5, candidate.name
    assert expected.std() > 0.5  # drawn so that differences show


@pytest.mark.parametrize("mode", ["infer", "train"])
def test_our_kernel_is_for_gpus(mode: Any) -> None:
    with pytest.raises(ValueError, match=r"(?i)cuda"):
        measure(small_case(mode=mode, against=("triton",)))


def test_weights_are_drawn_unless_they_are_named() -> None:
    drawn, bundled = small_case(), small_case(model=f"{NANO}.cifar10")
    assert (weights_of(drawn), weights_of(bundled)) == ("drawn", f"{NANO}.cifar10")
    first, second = build_reference(drawn), build_reference(drawn)
    assert torch.equal(first.blocks[0].attn.proj.weight, second.blocks[0].attn.proj.weight)
    assert not torch.equal(first.blocks[0].attn.proj.weight, build_reference(bundled).blocks[0].attn.proj.weight)


def test_a_peer_runs_in_what_can_be_had_by_a_cast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convit.optimization.precision._capability", lambda device: (9 * (device.type == "cuda"), 0))
    assert [peer_precision(asked, CPU) for asked in ("auto", "int8", "bf16")] == ["fp32", "fp32", "bf16"]
    assert [peer_precision(asked, torch.device("cuda")) for asked in ("auto", "fp8", "fp32")] == [
        "bf16",
        "bf16",
        "fp32",
    ]


def test_position_attention_is_counted_by_its_factors() -> None:
    reference = build_reference(small_case())
    layers = sum(isinstance(block, Block) and block.is_local for block in reference.blocks)
    for height, width in ((32, 32), (64, 128), (512, 512)):
        rows, columns = height // 4, width // 4
        cost = count_cost(reference, (height, width))
        assert cost.tokens == rows * columns
        assert cost.position == layers * rows * columns * (rows + columns) * reference.config.dim
        assert cost.macs is not None
        assert cost.executed is not None
        assert cost.position < cost.executed < cost.macs


def test_another_librarys_model_is_counted_too() -> None:
    counted = count_peer_cost(torch.nn.Conv2d(3, 8, 4, stride=4), torch.empty(1, 3, 16, 16))
    assert (counted.parameters, counted.executed, counted.activations) == (8 * 48 + 8, 16 * 8 * 48, 16 * 8)

    class Stubborn(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if float(images.sum()) > 0 else -images

    assert count_peer_cost(Stubborn(), torch.empty(1, 3, 16, 16)).macs is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "convit_bas"}, "there is no model 'convit_bas'; did you mean 'convit_base'"),
        ({"mode": "fly"}, "mode is 'fly', but must be one of infer, train"),
        ({"precision": "fp12"}, "precision is 'fp12', but must be one of auto, fastest, fp32"),
        ({"precision": "fp8"}, "precision is 'fp8', but cpu is not a CUDA GPU"),
        ({"precision": "int8", "mode": "train"}, "a training step can be measured in fp32, bf16"),
        ({"size": (33, 32)}, "33 x 32 pixels .* is not tiled by patches of 4"),
        ({"device": "cuda:9"}, "PyTorch sees . CUDA GPUs"),
        ({"batch": 0}, "batch is 0, but must be at least 1"),
        ({"against": ("timn:x",)}, "unknown candidate"),
    ],
)
def test_what_cannot_be_measured_is_refused_beforehand(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        small_case(**fields).check()


def test_a_missing_file_is_said() -> None:
    with pytest.raises(FileNotFoundError, match="weights is /nowhere"):
        small_case(weights="/nowhere").check()


def test_cases_are_every_combination() -> None:
    cases = make_cases([NANO, "convit_tiny"], None, ["fp32", "bf16"], [None, (32, 64)], [1, 8], device="cpu")
    assert len(cases) == 16
    assert (cases[0].against, cases[8].against[1]) == (("eager", "plain"), "timm:convit_tiny")
    assert (small_case(batch=None).batch_size, small_case(batch=None, mode="memory").batch_size) == (8, 1)
    assert dataclasses.replace(cases[0], rounds=None).round_count == 15


def test_who_is_named_twice_takes_part_once() -> None:
    assert [each.name for each in small_case(against=("eager", "plain", "eager")).candidates()] == [
        "ours",
        "eager",
        "plain",
    ]
    assert our_candidate("convit_base.fb_in1k").architecture == "convit_base"
