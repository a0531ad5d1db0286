"""Content attention by batched products, against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convit.model import ConViT, ConViTConfig, content
from convit.model.content import read_content


@pytest.fixture(autouse=True)
def amd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "_AMD", True)


def _heads(tokens: int = 16, batch: int = 5) -> Tensor:
    return torch.randn(batch, 3, tokens, 8, dtype=torch.bfloat16)


@pytest.mark.parametrize("scale", [None, 1.0, 0.5])
@pytest.mark.parametrize("queries", [16, 1])
@pytest.mark.parametrize("scores_at_a_time", [1, 3000, 2**20])
def test_products_give_what_the_fused_kernel_gives(
    scale: float | None, queries: int, scores_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_SCORES", scores_at_a_time)
    query, key, value = _heads(queries), _heads(), _heads()
    assert content.suits_products(query, key)
    exact = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), scale=scale)
    with torch.no_grad():
        found = read_content(query, key, value, scale=scale, in_place=True)
    torch.testing.assert_close(found.float(), exact, atol=0.05, rtol=0.05)
    assert found.transpose(1, 2).is_contiguous()  # joining the heads copies nothing
    assert torch.is_grad_enabled()  # as in training
    torch.testing.assert_close(read_content(query, key, value, scale=scale).float(), exact, atol=0.05, rtol=0.05)


@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::torch.jit.TracerWarning", "ignore:There is a performance drop"
)
@pytest.mark.parametrize("in_place", [False, True])
def test_vectorized_and_traced_calls_give_the_same(in_place: bool) -> None:
    heads = _heads()

    def read(each: Tensor) -> Tensor:
        return read_content(each, each, each, in_place=in_place)

    with torch.no_grad():
        found = read(heads)
        vectorized = torch.func.vmap(lambda each: read(each[None])[0])(heads)
        torch.testing.assert_close(vectorized, found, atol=0.02, rtol=0.02)
        traced = torch.jit.trace(read, heads[:2], check_trace=False)
        torch.testing.assert_close(traced(heads), found, atol=0.02, rtol=0.02)


def test_gradients_are_those_of_the_fused_kernel() -> None:
    parts = [_heads().requires_grad_() for _ in range(3)]
    exact = [part.detach().float().requires_grad_() for part in parts]
    weights = torch.randn(5, 3, 16, 8)
    found = torch.autograd.grad((read_content(*parts).float() * weights).sum(), parts)
    wanted = torch.autograd.grad((F.scaled_dot_product_attention(*exact) * weights).sum(), exact)
    for one, other in zip(found, wanted, strict=True):
        assert (one.float() - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize(("limit", "in_place"), [("MOST_KEYS", False), ("MOST_SCORES", True)])
def test_many_tokens_make_no_scores_of_every_pair(limit: str, in_place: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = _heads()
    monkeypatch.setattr(content, limit, 15)
    monkeypatch.setattr(torch, "softmax", lambda *_, **__: pytest.fail("scores of every pair"))
    with torch.set_grad_enabled(not in_place):
        assert read_content(heads, heads, heads, in_place=in_place).shape == heads.shape
    with torch.no_grad():  # the plain model rounds no more than it must
        assert read_content(heads[:, :, :2], heads[:, :, :2], heads[:, :, :2]).shape == (5, 3, 2, 8)


def test_fp32_dropout_and_other_processors_keep_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    heads = _heads()
    monkeypatch.setattr(torch, "softmax", lambda *_, **__: pytest.fail("scores of every pair"))
    read_content(heads.float(), heads.float(), heads.float())
    read_content(heads, heads, heads, dropout=0.5)
    monkeypatch.setattr(content, "_AMD", False)
    assert read_content(heads, heads, heads).dtype == torch.bfloat16


def test_a_model_trains_alike_in_both(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = ConViT(ConViTConfig(img_size=32, patch_size=8, embed_dim=16, depth=3, local_up_to_layer=2, num_classes=5))
    images, found = torch.randn(4, 3, 32, 32), []
    for amd in (True, False):
        monkeypatch.setattr(content, "_AMD", amd)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(images), torch.arange(4))
        loss.backward()
        found.append(torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None]))
    assert (found[0] - found[1]).norm() < 0.03 * found[1].norm()
