"""Decoding on the GPU, with torchvision's CPU decoder standing in for the one on the GPU."""

import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from skimage import data
from torch import Tensor

from convit import Classifier, ConViT, Embedder
from convit.images.formats import ImageError
from convit.images.opening import open_image
from convit.inference.gpu_decoding import GpuReader, find_decoder
from convit.transforms import EvaluationTransform, TransformSettings
from tests.images.test_opening import wide_profile

MakeModel = Callable[..., ConViT]


class StandIn:
    """Decodes on the CPU, remembers how many files it got, and refuses them where asked to."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.refuses = False

    def __call__(self, files: list[Tensor]) -> list[Tensor]:
        from torchvision.io import ImageReadMode, decode_jpeg

        self.counts.append(len(files))
        if self.refuses:
            raise RuntimeError("nvjpegDecode failed: 2")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return decode_jpeg(files, mode=ImageReadMode.RGB)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    decode = StandIn()
    monkeypatch.setattr("convit.inference.loaded.find_decoder", lambda device: decode)
    return decode


def encode(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def reader(apply_exif: bool = True, **settings: object) -> GpuReader:
    chosen = TransformSettings(**{"input_size": (3, 64, 64), "interpolation": "bicubic"} | settings)
    return GpuReader(StandIn(), chosen, apply_exif=apply_exif)


@pytest.mark.parametrize("settings", [{}, {"crop_mode": "squash"}, {"input_size": (3, 48, 96), "crop_pct": 1.0}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pixels_are_nearly_those_of_pillow(settings: dict[str, object], mode: str) -> None:
    chosen = TransformSettings(**{"input_size": (3, 64, 64), "interpolation": "bicubic"} | settings)
    gpu = GpuReader(StandIn(), chosen, apply_exif=True)
    contents = [encode(Image.fromarray(read()).convert(mode)) for read in (data.chelsea, data.coffee)]
    assert [gpu.take(content) for content in contents] == contents
    found = gpu.read(contents)
    assert found is not None
    for levels, content in zip(found, contents, strict=True):
        exact = EvaluationTransform(chosen).to_pixels(open_image(content))
        assert (levels.dtype, levels.shape) == (torch.uint8, exact.shape)
        errors = np.abs(levels.numpy().astype(int) - exact)
        assert errors.mean() < 0.5
        assert errors.max() <= 10


def test_what_a_gpu_might_read_otherwise_is_left_to_the_cpu(cat: Image.Image, tmp_path: Path) -> None:
    plain = encode(cat)
    (tmp_path / "cat.jpg").write_bytes(plain)
    assert reader().take(tmp_path / "cat.jpg") == reader().take(str(tmp_path / "cat.jpg")) == plain
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert reader().take(encode(cat, icc_profile=srgb)) is not None
    assert reader(apply_exif=False).take(encode(cat, exif=turned())) is not None
    left = {
        "turned": encode(cat, exif=turned()),
        "another color space": encode(cat, icc_profile=wide_profile()),
        "CMYK": encode(cat.convert("CMYK")),
        "PNG": encode(cat, "PNG"),
        "cut off": plain[:-500],
        "empty": b"",
        "no picture": b"\xff\xd8\xff" + bytes(50) + b"\xff\xd9",
        "missing": tmp_path / "none.jpg",
        "a Pillow image": cat,
        "an array": np.asarray(cat),
        "an open file": io.BytesIO(plain),
        "a strip": encode(Image.new("RGB", (20_000, 1))),
    }
    assert {name: reader().take(source) for name, source in left.items()} == dict.fromkeys(left)
    assert reader(interpolation="lanczos").take(plain) is None
    assert reader(crop_mode="border").take(plain) is None
    assert reader(input_size=(1, 64, 64), mean=(0.5,), std=(0.5,)).take(plain) is None


def test_both_ways_in_one_run(make_model: MakeModel, cat: Image.Image, photos: list[Path], stand_in: StandIn) -> None:
    sources = [photos[0], encode(cat, "PNG"), photos[1], b"broken", encode(cat, exif=turned()), photos[2]]
    classifier = Classifier(make_model(), decode="gpu", batch_size=4, workers=0)
    found = list(classifier.iterate(sources))
    usual = list(Classifier(make_model()).iterate(sources))
    assert stand_in.counts == [2, 1]
    assert [each.path for each in found] == [each.path for each in usual]
    assert [each.error for each in found] == [each.error for each in usual]
    for one, other in zip(found, usual, strict=True):
        scores = {each.index: each.score for each in one.predictions}
        assert scores == pytest.approx({each.index: each.score for each in other.predictions}, abs=0.05)


def test_refused_files_are_read_on_the_cpu(make_model: MakeModel, photos: list[Path], stand_in: StandIn) -> None:
    stand_in.refuses = True
    embedder = Embedder(make_model(), decode="gpu")
    np.testing.assert_array_equal(embedder(photos), Embedder(make_model())(photos))
    assert sum(stand_in.counts) == len(photos)


def test_memory_that_runs_out_is_no_refusal() -> None:
    def exhausted(files: list[Tensor]) -> list[Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        GpuReader(exhausted, TransformSettings(), apply_exif=True).read([b"x"])


def test_errors_keep_their_names(make_model: MakeModel, photos: list[Path], stand_in: StandIn, tmp_path: Path) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(photos[0].read_bytes()[:-900])
    with pytest.raises(ImageError, match=r"cut\.jpg: is cut off or damaged"):
        Classifier(make_model(), decode="gpu")([photos[1], cut])


def test_where_it_cannot_be(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="decode is 'disk', but must be one of cpu, gpu"):
        Classifier(make_model(), decode="disk")
    with pytest.raises(ValueError, match="decode is 'gpu', but the model runs on cpu; use device='cuda'"):
        Classifier(make_model(), decode="gpu")
    monkeypatch.setattr("convit.inference.loaded.load_by_name", pytest.fail)
    with pytest.raises(ValueError, match="decode is 'gpu', but the model runs on cpu"):
        Embedder("convit_nano_patch4_32.cifar10", decode="gpu", device="cpu")
    monkeypatch.setitem(sys.modules, "torchvision.io", None)
    with pytest.raises(ValueError, match="this torchvision cannot decode JPEG files any more"):
        find_decoder(torch.device("cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(photos: list[Path]) -> None:
    settings = TransformSettings(input_size=(3, 64, 64), interpolation="bicubic")
    gpu = GpuReader(find_decoder(torch.device("cuda")), settings, apply_exif=True)
    files = [content for path in photos if (content := gpu.take(path)) is not None]
    found = gpu.read(files)
    assert found is not None
    assert len(found) == len(photos)
    for levels, path in zip(found, photos, strict=True):
        assert levels.device.type == "cuda"
        exact = EvaluationTransform(settings).to_pixels(open_image(path))
        assert np.abs(levels.cpu().numpy().astype(int) - exact).mean() < 5
