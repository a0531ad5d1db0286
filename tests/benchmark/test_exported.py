"""Exported folders among the models that are measured."""

import json
from pathlib import Path

import pytest

import convit
from convit.benchmark import measure
from convit.benchmark.cases import make_cases
from convit.cli import main
from convit.export import export_model
from tests.benchmark.small import small_case

NAME = "convit_nano_patch4_32.cifar10"


@pytest.fixture(scope="module", params=[True, False], ids=["published", "of somebody"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bool]:
    """A folder, and whether it says from which published weights it was made."""
    folder = tmp_path_factory.mktemp("exported") / "mine"
    source = {"name": NAME} if request.param else {"name": "mine.safetensors"}
    export_model(convit.create_model(NAME, pretrained=True), folder, source=source)
    return str(folder), request.param


@pytest.mark.parametrize("mode", ["infer", "latency"])
def test_is_timed_beside_others_and_compared_where_its_weights_are_known(exported: tuple[str, bool], mode: str) -> None:
    folder, is_published = exported
    ours, eager = measure(small_case(model=folder, mode=mode))
    assert (ours.backend, ours.computed_in, ours.architecture) == ("onnx", "fp32", "convit_nano_patch4_32")
    assert (ours.height, ours.width, ours.batch) == (32, 32, 2)
    assert ours.images_per_second > 0
    assert eager.ratio == pytest.approx(ours.images_per_second / eager.images_per_second, abs=1e-3)
    assert ours.weights == eager.weights == (NAME if is_published else "of the file; others drawn")
    if is_published:
        assert ours.difference < 1e-5
    else:
        assert (ours.difference, eager.difference) == (None, None)


def test_other_weights_are_refused(exported: tuple[str, bool], tmp_path: Path) -> None:
    other = convit.create_model("convit_nano_patch4_32")
    convit.save_weights(tmp_path / "other.safetensors", other)
    with pytest.raises(ValueError, match="refused: ours gives other outputs than our model in fp32"):
        measure(small_case(model=exported[0], weights=str(tmp_path / "other.safetensors")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "train"}, "mode is train, but an exported model .* is measured with infer or latency"),
        ({"mode": "memory"}, "mode is memory, but"),
        ({"device": "cuda"}, "device is cuda, but an exported model .* is measured with auto or cpu"),
        ({"compiled": True}, "compiled is True, but"),
    ],
)
def test_what_is_not_measured_of_it(exported: tuple[str, bool], fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_case(model=exported[0], **fields).check()


def test_at_the_command_line(exported: tuple[str, bool], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--model", exported[0], "--rounds", "2", "--batch", "1"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["candidate"], row["backend"]) for row in rows] == [("ours", "onnx"), ("eager", "torch")]
    assert main(["benchmark", "--model", exported[0], "--rounds", "1", "--explain"]) == 2
    assert "cannot be looked into; leave --explain out" in capsys.readouterr().err
    assert main(["benchmark", "--model", exported[0], "--size", "64", "--rounds", "2"]) == 2
    assert "takes 32 x 32 only" in capsys.readouterr().err
    assert make_cases([exported[0]], None, ["fp32"], [None], [1])[0].against == ("eager",)
