"""What an explanation holds, and what its figure and its page show."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import SubFigure
from PIL import Image
from skimage import data

from convit.analysis import attention_maps, attention_rollout, class_rollout, gates
from convit.analysis.drawing import colored, draw_explanation, few_layers, overlay, percent, title_of
from convit.analysis.explaining import Explanation, explain, load_plain
from convit.analysis.page import render_page
from convit.inference import Classifier
from convit.model import ConViT, ConViTConfig
from convit.output.plots import png_of
from convit.transforms import create_transform, resolve_model_data_config
from tests.shaken import shake

SMALL = ConViTConfig(
    img_size=(24, 32), patch_size=8, embed_dim=4, num_heads=5, depth=3, local_up_to_layer=2, num_classes=3
)


def _model(**changes: object) -> ConViT:
    with pytest.warns(UserWarning, match="not a square number"):
        model = ConViT(SMALL.replace(**changes)).eval()
    shake(model)
    return model


def _texts(figure: object) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda item: hasattr(item, "get_text")))


@pytest.fixture
def found() -> Explanation:
    model = _model()
    with torch.no_grad():
        model.blocks[0].attn.pos_proj.weight[:, 2] = -1.0
        model.blocks[0].attn.pos_proj.weight[2, 2] = 1.0
    return explain(model, data.chelsea(), query=(2, 1), with_matrices=True)


def test_the_map_is_of_the_class_asked_for() -> None:
    model = _model()
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": ["cat", "Dog", "dog"]}
    likeliest = explain(model, data.coffee(), top_k=3)
    by_index = {each.index: (each, at) for at, each in enumerate(likeliest.predictions)}
    for name, index in (("CAT", 0), ("Dog", 1), ("2", 2)):
        found = explain(model, data.coffee(), classes=[name])
        expected, at = by_index[index]
        assert (found.predictions[0].index, found.predictions[0].label) == (index, expected.label)
        assert found.predictions[0].score == pytest.approx(expected.score)
        np.testing.assert_allclose(found.class_maps[0], likeliest.class_maps[at], atol=1e-6)
    so = "no one class 'DOG': 1 and 2 are called so; give a number"
    near, none = "no class 'cta'; the nearest: cat; give", "no class '3'; there are .*; give a name, or .* from 0 to 2"
    for name, said in (("DOG", so), ("cta", near), ("3", none)):
        with pytest.raises(ValueError, match=said):
            explain(model, data.coffee(), classes=[name])


def test_it_scores_as_a_classifier_does() -> None:
    model = _model()
    torch.nn.init.zeros_(model.head.weight)  # of equal scores the lower number comes first
    torch.nn.init.constant_(model.head.bias, 0.5)
    model.pretrained_cfg = {**model.pretrained_cfg, "num_classes": 3, "calibration": {"temperature": 2.0}}
    for _ in range(2):
        for options in ({}, {"crop_pct": 0.5}):
            expected = Classifier(model, top_k=2, **options)(data.coffee())
            assert list(explain(model, data.coffee(), top_k=2, **options).predictions) == expected
        shake(model)


def test_it_holds_what_the_model_did_with_the_picture() -> None:
    model = _model()
    found = explain(model, data.coffee(), query=(2, 1), heads=[4, 2], layers=[1, 3])
    images = create_transform(**resolve_model_data_config(model))(Image.fromarray(data.coffee()))[None]
    maps = list(attention_maps(model, images))
    assert (found.grid, found.pixels.shape) == ((3, 4), (24, 32, 3))
    assert [view.number for view in found.layers] == [1, 3]
    for view in found.layers:
        for kind, values in view.maps.items():
            expected = maps[view.number - 1].from_patch(2, 1, kind)[0, [3, 1]]
            torch.testing.assert_close(torch.from_numpy(values), expected, rtol=1e-4, atol=1e-5)
    assert list(found.layers[0].maps) == ["content", "position", "blended"]
    assert list(found.layers[1].maps) == ["blended"]
    np.testing.assert_allclose(found.layers[0].gate, gates(model)[0, [3, 1]])
    np.testing.assert_allclose(found.class_attention[3], maps[2].class_attention()[0], rtol=1e-3, atol=1e-5)
    row = attention_rollout(model, images)[0, 0, 1:]
    np.testing.assert_allclose(found.rollout.ravel(), row / row.sum(), rtol=1e-3)
    assert found.predictions[0].index == model(images)[0].argmax()


def test_the_class_token_is_asked_where_it_is() -> None:
    model = _model()
    found = explain(model, data.rocket(), query=None)
    assert [view.number for view in found.layers] == [3]
    np.testing.assert_array_equal(found.layers[0].maps["blended"], found.class_attention[3])
    with pytest.raises(ValueError, match="layer 2 has no class token, which joins after the GPSA layers; take a layer"):
        explain(model, data.rocket(), query=None, layers=[2, 3])
    for layers in (None, [3]):
        with pytest.raises(ValueError, match="no class token to be the query"):
            explain(_model(local_up_to_layer=3, global_pool="avg"), data.rocket(), query=None, layers=layers)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"query": (3, 0)}, "3,0 is outside of the image's 3 x 4 patches; rows go from 0 to 2"),
        ({"query": "corner"}, "'corner', but must be"),
        ({"layers": [4]}, "there is no layer 4; the model has layers 1 to 3"),
        ({"heads": [0]}, "there is no head 0; the model has heads 1 to 5"),
        ({"img_size": 30}, "patch"),
    ],
)
def test_what_is_not_there_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        explain(_model(), data.chelsea(), **options)


def test_models_of_other_kinds_are_explained_too() -> None:
    for changes in ({"local_up_to_layer": 0}, {"local_up_to_layer": 3, "global_pool": "avg"}, {"num_classes": 0}):
        model = _model(**changes) if changes.get("local_up_to_layer") != 0 else ConViT(SMALL.replace(**changes)).eval()
        found = explain(model, data.chelsea())
        assert (found.gates is None) == (changes.get("local_up_to_layer") == 0)
        assert (len(found.predictions) == 0) == ("num_classes" in changes)
        assert png_of(draw_explanation(found)).startswith(b"\x89PNG")
    padded = explain(_model(dynamic_img_pad=True), data.chelsea(), img_size=(20, 32))
    assert (padded.grid, padded.pixels.shape) == ((3, 4), (24, 32, 3))
    assert (padded.pixels[20:] == 127).all()


def test_the_figure_says_what_is_seen(found: Explanation) -> None:
    texts = _texts(draw_explanation(found))
    for words in (
        "As the model sees it:\n24 x 32 pixels",
        "Gates: 1 reads by place, 0 by content",
        "Learned offsets",
        "no center: 3",
        "Layer 1, gated: what the patch in row 2, column 1 reads",
        "Layer 3, ordinary attention: what the patch in row 2, column 1 reads of the patches (the class token",
        f"head 5\ngate {found.gates[1, 4]:.2f}",
        title_of(found),
        percent(found.layers[0].maps["content"][0].max()),
    ):
        assert words in texts
    assert png_of(draw_explanation(found)) == png_of(draw_explanation(found))


def test_no_title_is_cut_off(found: Explanation) -> None:
    """Also with one head, whose figure is the narrowest."""
    model = _model()
    for query in ((2, 1), None):
        figure = draw_explanation(explain(model, data.chelsea(), query=query, heads=[1]))
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
        titles = [part._suptitle for part in (figure, *figure.findobj(SubFigure)) if part._suptitle is not None]
        assert len(titles) > 1
        for title in titles:
            assert title.get_window_extent(renderer).x1 <= figure.bbox.x1, title.get_text()


def test_a_picture_named_like_a_formula_is_drawn_as_it_is(found: Explanation) -> None:
    object.__setattr__(found, "name", "$x^{.jpg")
    figure = draw_explanation(found)
    assert "$x^{.jpg" in _texts(figure)
    assert png_of(figure).startswith(b"\x89PNG")


def test_a_figure_shows_few_layers_of_a_deep_model() -> None:
    model = ConViT(ConViTConfig(embed_dim=4))
    assert few_layers(model, of_class_token=False) == [1, 10, 12]
    assert few_layers(model, of_class_token=True) == [11, 12]


def test_the_brightest_patch_is_the_one_most_read() -> None:
    values = np.array([[0.1, 0.7], [0.0, 0.2]], dtype=np.float32)
    lightness = colored(values).astype(int).sum(-1)
    assert np.array_equal(lightness.ravel().argsort(), values.ravel().argsort())
    over = overlay(np.full((4, 4, 3), 100, np.uint8), values).sum(-1)
    assert (over[:2, 2:] == over.max()).all()
    assert colored(np.zeros((2, 2), np.float32)).max() < 10


def test_the_page_holds_every_layer_and_head_and_loads_nothing(found: Explanation) -> None:
    page = render_page(found)
    assert not re.findall(r"(?:src|href)=\"(?!data:)|https?://|url\(", page)
    assert "default-src 'none'" in page
    shown = json.loads(re.search(r'id="shown">(.*?)</script>', page, re.DOTALL)[1])
    views = shown["views"]
    assert [(view["number"], len(view["heads"])) for view in views] == [(1, 5), (2, 5), (3, 5)]
    assert (views[0]["title"], views[2]["title"]) == (
        "Layer 1, gated", "Layer 3, ordinary attention, the class token left out"
    )  # fmt: skip
    drawn = views[1]["heads"][3]["maps"]
    assert [each["kind"] for each in drawn] == ["content", "position", "blended"]
    assert (shown["grid"], shown["query"]) == ([3, 4], 9)
    # every patch as a query, its row drawn in the colors of its own map
    with Image.open(io.BytesIO(base64.b64decode(drawn[0]["url"].partition(",")[2]))) as image:
        levels = np.asarray(image)
    matrix = found.layers[1].matrices["content"][3]
    np.testing.assert_array_equal(matrix[9].reshape(3, 4), found.layers[1].maps["content"][3])
    for query in range(12):
        seen = np.array(shown["colors"])[levels[query]].astype(int)
        assert np.abs(seen - colored(matrix[query][None])[0].astype(int)).max() <= 6  # a step of 256
        assert drawn[0]["peaks"][query] == pytest.approx(matrix[query].max(), rel=1e-3)


def test_it_says_why_each_likely_class(found: Explanation) -> None:
    assert len(found.class_maps) == len(found.predictions) == 3
    model = _model()
    images = create_transform(**resolve_model_data_config(model))(Image.fromarray(data.coffee()))[None]
    again = explain(model, data.coffee())
    for each, drawn in zip(again.predictions, again.class_maps, strict=True):
        expected = class_rollout(model, images, [each.index])[0]
        np.testing.assert_allclose(drawn, expected / expected.sum(), rtol=1e-3, atol=1e-6)
        assert drawn.sum() == pytest.approx(1)
    assert f"Why {found.predictions[0].label}:" in _texts(draw_explanation(found))
    page = render_page(found)
    assert page.count("Where the model looks for") == 3
    assert "arXiv 2103.15679" in page


def test_a_hostile_name_stays_text(found: Explanation) -> None:
    object.__setattr__(found, "name", "</script><b>x.jpg")
    assert "<bdi>script&gt;&lt;b&gt;x.jpg</bdi></h1>" in render_page(found)


@pytest.mark.parametrize(("pays", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_plain_model_is_computed_in_what_the_processor_is_fast_in(
    pays: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convit.optimization.precision.bfloat16_pays", lambda: pays)
    loaded = load_plain("convit_nano_patch4_32.cifar10", device="cpu", precision="bf16")
    assert loaded.head.weight.dtype == expected
    with pytest.raises(ValueError, match="precision is 'int8', which only a ConViT's fast form runs in"):
        load_plain("convit_nano_patch4_32.cifar10", device="cpu", precision="int8")
