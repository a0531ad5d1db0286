"""timm's symbolic tracing of our class gives what it gives of timm's."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm import utils
from torch import nn

from tests.shaken import relative_error, shake

pytestmark = pytest.mark.compiled  # the shape checks take no proxies

SMALL: dict[str, Any] = {"depth": 3, "local_up_to_layer": 2, "img_size": 64}
IMAGES = torch.randn(2, 3, 64, 64)


def _pair(integration: Any) -> list[nn.Module]:
    """timm's model and ours, made by one call."""
    models: list[nn.Module] = []
    for choose in (integration.disable, integration.enable):
        choose()
        torch.manual_seed(0)
        model = timm.create_model("convit_tiny", **SMALL)
        shake(model)
        models.append(model.eval())
    return models


def test_a_graph_gives_timms_features(ours: Any) -> None:
    theirs, mine = (timm.models._features_fx.FeatureGraphNet(model, out_indices=(0, 1, 2)) for model in _pair(ours))
    with torch.inference_mode():
        for our_map, their_map in zip(mine(IMAGES), theirs(IMAGES), strict=True):
            assert relative_error(our_map, their_map) < 1e-5
    mine.train()
    sum(values.square().sum() for values in mine(IMAGES)).backward()
    assert all(value.grad is not None for name, value in mine.named_parameters())


def test_attention_is_extracted_from_the_graph_as_timms_is(ours: Any) -> None:
    theirs, mine = (utils.AttentionExtract(model, method="fx") for model in _pair(ours))
    with torch.inference_mode():
        ours_found, found = mine(IMAGES), theirs(IMAGES)
    assert list(ours_found) == list(found) == ["blocks.2.attn.softmax"]
    assert relative_error(ours_found["blocks.2.attn.softmax"], found["blocks.2.attn.softmax"]) < 1e-5


def test_a_graph_takes_other_sizes(ours: Any) -> None:
    _, model = _pair(ours)
    graph = timm.models.create_feature_extractor(model, ["head"])
    images = torch.randn(3, 3, 32, 96)
    with torch.inference_mode():
        torch.testing.assert_close(graph(images)["head"], model(images))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_graph_can_be_scripted_and_saved(ours: Any, tmp_path: Path) -> None:
    _, model = _pair(ours)
    graph = timm.models.create_feature_extractor(model, ["head"])
    torch.jit.script(graph).save(tmp_path / "graph.pt")
    again = torch.jit.load(tmp_path / "graph.pt")
    with torch.inference_mode():
        for size in ((64, 64), (32, 96)):
            images = torch.randn(3, 3, *size)
            assert relative_error(again(images)["head"], model(images)) < 1e-5
