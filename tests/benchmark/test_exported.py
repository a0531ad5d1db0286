"""Exported folders among the models that are measured."""

import json
import shutil
from pathlib import Path

import pytest

import convit
from convit.benchmark import measure
from convit.benchmark.cases import make_cases
from convit.cli import main
from convit.export import export_model
from tests.benchmark.small import small_case

NAME = "convit_nano_patch4_32.cifar10"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder that says from which published weights it was made."""
    folder = tmp_path_factory.mktemp("exported") / "mine"
    export_model(convit.create_model(NAME, pretrained=True), folder, source={"name": NAME})
    return str(folder)


def test_is_timed_beside_others_and_compared_with_them(published: str) -> None:
    ours, eager = measure(small_case(model=published))
    assert (ours.backend, ours.computed_in, ours.architecture) == ("onnx", "fp32", "convit_nano_patch4_32")
    assert (ours.height, ours.width, ours.batch) == (32, 32, 2)
    assert ours.images_per_second > 0
    assert eager.ratio == pytest.approx(ours.images_per_second / eager.images_per_second, abs=1e-3)
    assert ours.weights == eager.weights == NAME
    assert ours.difference < 1e-5


def test_is_not_compared_where_nobody_has_its_weights(published: str, tmp_path: Path) -> None:
    folder = shutil.copytree(published, tmp_path / "mine")
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text(text.replace(f'"name": "{NAME}"', '"name": "runs/mine"'))
    rows = measure(small_case(model=str(folder), mode="latency"))
    assert [(row.difference, row.weights) for row in rows] == [(None, "of the file; others drawn")] * 2


def test_other_weights_are_refused(published: str, tmp_path: Path) -> None:
    convit.save_weights(tmp_path / "other.safetensors", convit.create_model("convit_nano_patch4_32"))
    with pytest.raises(ValueError, match="refused: ours gives other outputs than our model in fp32"):
        measure(small_case(model=published, weights=str(tmp_path / "other.safetensors")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "train"}, "mode is train, but an exported model .* is measured with infer or latency"),
        ({"mode": "memory"}, "mode is memory, but"),
        ({"device": "cuda"}, "device is cuda, but an exported model .* is measured with auto or cpu"),
        ({"compiled": True}, "compiled is True, but"),
    ],
)
def test_what_is_not_measured_of_it(published: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_case(model=published, **fields).check()


def test_at_the_command_line(published: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--model", published, "--rounds", "2", "--batch", "1"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["candidate"], row["backend"]) for row in rows] == [("ours", "onnx"), ("eager", "torch")]
    assert main(["benchmark", "--model", published, "--rounds", "1", "--explain"]) == 2
    assert "cannot be looked into; leave --explain out" in capsys.readouterr().err
    assert main(["benchmark", "--model", published, "--size", "64", "--rounds", "2"]) == 2
    assert "takes 32 x 32 only" in capsys.readouterr().err
    assert make_cases([published], None, ["fp32"], [None], [1])[0].against == ("eager",)
