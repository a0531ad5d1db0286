"""The runtimes of exported files, on a small function of images with two results."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convit.inference.sessions import start_session

NAMES = ("mean", "largest")


class Two(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        values = images.float()
        return values.mean(dim=(1, 2)), values.amax(dim=(1, 2))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same as a file of each kind, for two images of 4 x 6 pixels."""
    import openvino

    folder = tmp_path_factory.mktemp("files")
    found = {"onnx": folder / "model.onnx", "openvino": folder / "model.xml", "pt2": folder / "model.pt2"}
    example = (torch.zeros(2, 4, 6, 3, dtype=torch.uint8),)
    program = torch.export.export(Two(), example)
    torch.export.save(program, found["pt2"])
    names = {"input_names": ["images"], "output_names": [*NAMES]}
    torch.onnx.export(program, (), found["onnx"], **names, dynamo=True, external_data=False, verbose=False)
    openvino.save_model(openvino.convert_model(found["onnx"]), found["openvino"], compress_to_fp16=False)
    return found


@pytest.mark.parametrize("form", ["onnx", "openvino", "pt2"])
def test_gives_what_is_asked_for_in_that_order(form: str, files: dict[str, Path]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    expected = {"mean": pixels.mean(axis=(1, 2)), "largest": pixels.max(axis=(1, 2))}
    run = start_session(files[form], form, "fp32", "images", NAMES)
    for names in (NAMES, NAMES[::-1], NAMES[1:]):
        for name, found in zip(names, run(pixels, names), strict=True):
            np.testing.assert_allclose(found, expected[name], rtol=1e-6)
    kept = run(pixels, ("mean",))[0].copy()
    first = run(pixels, ("mean",))[0]
    run(np.zeros_like(pixels), ("mean",))
    np.testing.assert_array_equal(first, kept)  # a later batch does not write over it


@pytest.mark.parametrize("form", ["onnx", "openvino", "pt2", "aotinductor"])
def test_what_is_no_such_file(form: str, tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    file.write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"model.pt2 cannot be loaded \(.+\); export again, or update its runtime"):
        start_session(file, form, "fp32", "images", NAMES)


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_other_names_than_described(form: str, files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"it has mean, largest, but config.json names other"):
        start_session(files[form], form, "fp32", "images", ("mean", "other"))
    with pytest.raises(ValueError, match=r"it has images, but config.json names pixels"):
        start_session(files[form], form, "fp32", "pixels", NAMES)


@pytest.mark.parametrize("form", ["onnx", "openvino", "pt2", "aotinductor", "executorch", "litert"])
def test_without_its_runtime(form: str, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"onnx": "onnxruntime", "openvino": "openvino", "executorch": "executorch", "litert": "ai_edge_litert"}
    package = others.get(form, "torch")
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf" needs the package {package}; pip install {package.replace('_', '-')}$"):
        start_session(files.get(form, Path("model.pt2")), form, "fp32", "images", NAMES)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_threads_are_those_of_pytorch(threads: str, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    given: list[int] = []
    start = onnxruntime.InferenceSession

    def noted(file: str, options: onnxruntime.SessionOptions, **more: object) -> object:
        given.append(options.intra_op_num_threads)
        return start(file, options, **more)

    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setattr(onnxruntime, "InferenceSession", noted)
    start_session(files["onnx"], "onnx", "fp32", "images", NAMES)
    assert given == [int(threads)]
