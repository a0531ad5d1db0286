"""Pictures in, labels out."""

import io
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convit.images import ImageError, open_image
from convit.inference import Classifier
from convit.model import ConViT
from convit.optimization import optimize
from convit.output.rows import Classification, Prediction
from convit.transforms import create_transform, resolve_model_data_config
from convit.weights import save_weights
from tests.data.making import encoded

MakeModel = Callable[..., ConViT]


def expected_scores(model: nn.Module, path: Path) -> torch.Tensor:
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        return model(transform(open_image(path)).unsqueeze(0)).softmax(dim=-1)[0]


def test_predictions_are_the_models(make_model: MakeModel, photos: list[Path]) -> None:
    model = make_model()
    classifier = Classifier(model, top_k=4)
    found = classifier(photos)
    assert len(found) == len(photos)
    for path, predictions in zip(photos, found, strict=True):
        scores, indices = expected_scores(model, path).topk(4)
        assert [prediction.index for prediction in predictions] == indices.tolist()
        assert [prediction.label for prediction in predictions] == ["abcdefghij"[index] for index in indices]
        np.testing.assert_allclose([prediction.score for prediction in predictions], scores, rtol=1e-4)
    assert len({predictions[0].score for predictions in found}) == len(photos)


def test_one_or_many(make_model: MakeModel, photos: list[Path], cat: Image.Image) -> None:
    classifier = Classifier(make_model())
    single = classifier(photos[0])
    assert all(isinstance(prediction, Prediction) for prediction in single)
    assert [len(single), classifier.top_k] == [5, 5]
    content = photos[0].read_bytes()
    sources = [
        photos[0],
        str(photos[0]),
        content,
        io.BytesIO(content),
        open_image(photos[0]),
        np.array(open_image(content)),
    ]
    for found in classifier(tuple(sources)):
        assert [prediction.index for prediction in found] == [prediction.index for prediction in single]
    assert classifier([]) == []
    assert classifier(cat) == classifier([cat])[0]


def test_a_folder_run_keeps_order_and_goes_on_after_bad_pictures(
    make_model: MakeModel, photos: list[Path], tmp_path: Path
) -> None:
    broken, missing = tmp_path / "broken.jpg", tmp_path / "missing.jpg"
    broken.write_bytes(photos[0].read_bytes()[:900])
    sources = [photos[0], broken, photos[1], missing, b"", *photos[2:]]
    classifier = Classifier(make_model(), batch_size=2, workers=2, top_k=1)
    results = list(classifier.iterate(sources))
    names = [*map(str, [photos[0], broken, photos[1], missing]), "<bytes>", *map(str, photos[2:])]
    assert [result.path for result in results] == names
    assert [result.error is None for result in results] == [True, False, True, False, False, True, True, True]
    assert results[3].error == f"{missing}: no such file; check the path"
    assert results[1].predictions == ()
    good = [result for result in results if result.error is None]
    assert [result.predictions[0].index for result in good] == [found[0].index for found in classifier(photos)]
    assert (classifier.timings.images, classifier.timings.failed) == (5, 0)


def test_timings(make_model: MakeModel, photos: list[Path]) -> None:
    classifier = Classifier(make_model(), batch_size=2)
    assert classifier.timings.images == 0
    run = classifier.iterate([*photos, Path("missing.jpg")])
    next(run)
    assert classifier.timings.images == 1
    list(run)
    timings = classifier.timings
    assert (timings.images, timings.failed) == (6, 1)
    assert 0 < timings.waiting_seconds < timings.seconds
    assert timings.waiting_share == timings.waiting_seconds / timings.seconds
    assert str(timings).startswith("6 images (1 failed) in ")
    assert f"waited for data {100 * timings.waiting_share:.1f} % of the time" in str(timings)


def test_a_slow_model_does_not_wait_for_data(make_model: MakeModel, photos: list[Path]) -> None:
    class Slow(nn.Module):
        num_classes = 10

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            threading.Event().wait(0.2)
            return images.mean(dim=(2, 3)) @ torch.ones(3, 10)

    classifier = Classifier(Slow(), batch_size=5, img_size=32)
    list(classifier.iterate(photos * 6))
    assert classifier.timings.waiting_share < 0.3


def test_pictures_are_taken_from_a_generator(make_model: MakeModel, photos: list[Path]) -> None:
    def endless() -> Iterator[Path]:
        while True:
            yield from photos

    run = Classifier(make_model(), batch_size=2).iterate(endless())
    assert [next(run).path for _ in range(12)] == [str(path) for path in (photos * 3)[:12]]
    run.close()


def test_bad_pictures_raise_in_a_call(make_model: MakeModel, photos: list[Path]) -> None:
    classifier = Classifier(make_model())
    with pytest.raises(ImageError, match=r"missing\.jpg: no such file"):
        classifier("missing.jpg")
    with pytest.raises(ImageError, match=r"missing\.jpg: no such file"):
        classifier([photos[0], "missing.jpg"])
    with pytest.raises(TypeError, match="an image is a path"):
        classifier(7)
    with pytest.raises(TypeError, match="an image is a path"):
        list(classifier.iterate([photos[0], None]))
    with pytest.raises(TypeError, match="several images are asked for, but got one str; put it into a list"):
        list(classifier.iterate(str(photos[0])))


def test_exif_can_be_left_alone(make_model: MakeModel, cat: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(cat, exif=exif)
    model = make_model()
    upright = Classifier(model)(turned)
    stored = Classifier(model, apply_exif=False)(turned)
    assert stored == Classifier(model)(encoded(cat))
    assert stored != upright
    assert upright == Classifier(model)(cat.rotate(-90, expand=True))


def test_label_names(make_model: MakeModel, cat: Image.Image) -> None:
    model = make_model()
    model.pretrained_cfg = {**model.pretrained_cfg, "label_names": None}
    assert Classifier(model).labels[:2] == ("class 0", "class 1")
    model.reset_classifier(3)
    classifier = Classifier(model)
    assert classifier.labels == ("class 0", "class 1", "class 2")
    assert classifier.top_k == len(classifier(cat)) == 3
    with pytest.raises(ValueError, match="has num_classes=0, so it names no classes; use an Embedder"):
        Classifier(make_model(num_classes=0))


def test_models_without_pooling_are_refused(make_model: MakeModel, cat: Image.Image) -> None:
    with pytest.raises(ValueError, match="a classifier needs"):
        Classifier(make_model(global_pool=""))(cat)


def test_other_input_sizes(make_model: MakeModel, photos: list[Path]) -> None:
    model = make_model()
    wide = Classifier(model, img_size=(16, 64))
    assert wide.transform.settings.input_size == (3, 16, 64)
    assert wide(photos[0])[0].score != Classifier(model)(photos[0])[0].score
    with pytest.raises(ValueError, match=r"36 x 36 pixels .* not tiled by patches of 8"):
        Classifier(model, img_size=36)
    assert Classifier(make_model(dynamic_img_pad=True), img_size=36)(photos[0])


def test_another_crop(make_model: MakeModel, photos: list[Path]) -> None:
    model = make_model()
    closer = Classifier(model, crop_pct=0.5)
    assert closer.transform.settings == replace(Classifier(model).transform.settings, crop_pct=0.5)
    assert closer(photos[0])[0].score != Classifier(model)(photos[0])[0].score


def test_fast_decoding_is_close(make_model: MakeModel, cat: Image.Image) -> None:
    large = encoded(cat.resize((1804, 1200)), "JPEG", quality=95)
    model = make_model()
    exact = Classifier(model, top_k=10)(large)
    fast = {found.index: found.score for found in Classifier(model, top_k=10, fast_decode=True)(large)}
    assert any(fast[found.index] != found.score for found in exact)
    for found in exact:
        assert fast[found.index] == pytest.approx(found.score, abs=0.05)


def test_gray_models(make_model: MakeModel, photos: list[Path]) -> None:
    model = make_model(in_chans=1)
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (1, 32, 32)}
    assert len(Classifier(model)(photos[0])) == 5


def test_precisions(make_model: MakeModel, photos: list[Path]) -> None:
    model = make_model()
    exact = Classifier(model, top_k=10)(photos[0])
    classifier = Classifier(model, top_k=10, precision="bf16")
    assert classifier.precision == "bf16"
    assert next(model.parameters()).dtype == torch.float32
    rounded = {prediction.index: prediction.score for prediction in classifier(photos[0])}
    for prediction in exact:
        assert rounded[prediction.index] == pytest.approx(prediction.score, abs=0.1)
    assert Classifier(make_model().double()).precision == "fp64"
    assert Classifier(model).model is model


def test_outputs_that_are_not_finite_are_errors(make_model: MakeModel, photos: list[Path]) -> None:
    model = make_model()
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    classifier = Classifier(model)
    result = next(classifier.iterate(photos[:1]))
    assert result == Classification(
        str(photos[0]), (), f"{photos[0]}: the model's output is not finite in fp32; use precision='fp32'"
    )
    with pytest.raises(ImageError, match="not finite"):
        classifier(photos[0])


def test_modules_are_put_into_evaluation_mode(make_model: MakeModel, cat: Image.Image) -> None:
    model = make_model(drop_rate=0.5).train()
    classifier = Classifier(model)
    assert classifier(cat) == classifier(cat)
    assert not model.training


def test_weights_from_a_file(make_model: MakeModel, photos: list[Path], tmp_path: Path) -> None:
    model = make_model()
    save_weights(tmp_path / "own.safetensors", model, {})
    classifier = Classifier(weights=tmp_path / "own.safetensors")
    for folded, plain in zip(classifier(photos), Classifier(model)(photos), strict=True):
        assert [found.label for found in folded] == [found.label for found in plain]
        assert [found.score for found in folded] == pytest.approx([found.score for found in plain], rel=1e-4)
    assert classifier.labels == tuple("abcdefghij")
    assert classifier.name == "own.safetensors"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0, but must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0, but must be at least 1"),
        ({"workers": -1}, "workers is -1, but must be at least 0"),
        ({"precision": "int4"}, "precision is 'int4', but must be one of auto, fastest, fp32, bf16, fp16, fp8, int8"),
        ({"precision": "int8", "model": "convit_nano_patch4_32.cifar10"}, "calibrated on images: give calibration="),
        (
            {"precision": "int8", "model": "convit_nano_patch4_32.cifar10", "calibration": [b"text", b""]},
            "none of the 2 images that should give its ranges can be read; give others, or take another precision",
        ),
        (
            {"precision": "fp8", "model": "convit_nano_patch4_32.cifar10", "device": "cpu"},
            "cpu is not a CUDA GPU of capability 8.9",
        ),
        ({"device": "gpu"}, "device is 'gpu', but must be auto, cpu, cuda"),
        ({"device": "meta"}, "device is 'meta', but must be auto, cpu, cuda"),
        ({"device": "cuda:77"}, "device is 'cuda:77', but PyTorch sees"),
        ({"crop_pct": 0}, "crop_pct is 0, but must lie in [0.01, 1]"),
        ({"img_size": 0}, "img_size is 0, but must be a side or"),
        ({"img_size": (3, 32, 32)}, "must be a side or"),
        ({"model": "convit_bse.fb_in1k"}, "convit_base.fb_in1k"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    # the options are refused before a model is loaded: none of that name can be had here
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Classifier(**{"model": "convit_base.fb_in1k", **options})
    assert "\n" not in str(caught.value)


def test_a_module_brings_its_weights(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="a module that holds its weights already"):
        Classifier(make_model(), weights="x.safetensors")
    with pytest.raises(FileNotFoundError):
        Classifier(weights="missing.safetensors")


def test_an_optimized_model_keeps_its_precision(
    make_model: MakeModel, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = optimize(make_model(), "fp32")
    (named,), (kept,) = Classifier(fast, top_k=1, precision="fp32")(photos[0]), Classifier(fast, top_k=1)(photos[0])
    # MKL lays weights out for the second image: the last bits differ
    assert (named.label, named.score) == (kept.label, pytest.approx(kept.score, rel=1e-5))
    for other in ("bf16", "int8", "fastest"):
        with pytest.raises(ValueError, match=f"model was optimized for fp32, but precision is '{other}'; leave it out"):
            Classifier(fast, precision=other)
    monkeypatch.setattr("convit.optimization.precision.bfloat16_pays", lambda: False)
    fast = optimize(make_model(), "bf16")  # computed in fp32
    assert Classifier(fast, precision="bf16").model is fast


def test_the_batch_is_as_large_as_what_computes_it_has_it(make_model: MakeModel) -> None:
    model = make_model()
    classifier = Classifier(model, device="cpu:0")
    assert classifier.batch_size == 8  # as on "cpu"
    assert classifier.model is model
    assert Classifier(optimize(make_model(), "fp32"), device="cpu:0").batch_size == 8
    assert Classifier(make_model(), batch_size=3).batch_size == 3
