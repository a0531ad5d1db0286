"""`convit evaluate`: what is written, and what is said of wrong input."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from convit.cli import main

Captured = pytest.CaptureFixture[str]
WriteShard = Callable[[Path, list[tuple[str, int, bytes]]], None]


def test_json_in_a_pipe(folder: Path, weights: Path, capsys: Captured) -> None:
    assert main(["evaluate", str(folder), "--weights", str(weights)]) == 0
    written = capsys.readouterr()
    result = json.loads(written.out)
    assert (result["count"], result["model"], result["device"][:3]) == (18, "six.safetensors", "cpu")
    assert written.err == ""


def test_table(folder: Path, weights: Path, capsys: Captured) -> None:
    assert main(["evaluate", str(folder), "--weights", str(weights), "--format", "table"]) == 0
    shown = capsys.readouterr().out
    for part in ("six.safetensors", "top-1", "top-5", "loss", "18", "sha256"):
        assert part in shown


def test_another_crop_is_measured_and_told(tmp_path: Path, folder: Path, weights: Path, capsys: Captured) -> None:
    command, found = ["evaluate", str(folder), "--weights", str(weights)], dict[float, float]()
    for crop, options in ((1.0, []), (0.5, ["--crop-pct", "0.5", "--report", str(tmp_path / "report")])):
        assert main([*command, *options]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["preprocessing"]["crop_pct"] == crop
        found[crop] = result["loss"]
    assert found[0.5] != found[1.0]
    assert "crop pct 0.5" in (tmp_path / "report" / "index.html").read_text()
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text())["preprocessing"]["crop_pct"] == 0.5
    assert main([*command, "--crop-pct", "2"]) == 2
    assert "'--crop-pct': Input should be less than or equal to 1" in capsys.readouterr().err


def test_output_file(tmp_path: Path, shards: Path, weights: Path, capsys: Captured) -> None:
    output = tmp_path / "result.json"
    command = ["evaluate", str(shards), "--weights", str(weights), "--output", str(output)]
    assert main(command) == 0
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("convit: six.safetensors: top-1 ")
    assert json.loads(output.read_text())["count"] == 18
    assert main(command) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert [path.name for path in tmp_path.glob("*.tmp")] == []


def test_unreadable_images_give_exit_code_3(folder: Path, weights: Path, capsys: Captured) -> None:
    (folder / "cat" / "bad.jpg").write_text("no picture")
    assert main(["evaluate", str(folder), "--weights", str(weights)]) == 3
    written = capsys.readouterr()
    result = json.loads(written.out)
    assert (result["count"], result["unreadable"], result["errors"][0]["name"]) == (18, 1, "cat/bad.jpg")
    assert written.err.count("\n") == 1
    assert "done, 1 of 19 images skipped: they could not be read and count in no metric; the first: cat/bad.jpg" in (
        written.err
    )
    output = folder.parent / "found.json"
    assert main(["evaluate", str(folder), "--weights", str(weights), "-o", str(output)]) == 3
    assert f"done, 1 of 19 images skipped (see {output}): they could not be read" in capsys.readouterr().err
    assert json.loads(output.read_text())["errors"][0]["name"] == "cat/bad.jpg"


def _refused(arguments: list[str], capsys: Captured, code: int = 2) -> str:
    assert main(["evaluate", *arguments]) == code
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("convit: error: ")
    assert written.err.count("\n") == 1
    return written.err


def test_wrong_data(tmp_path: Path, folder: Path, weights: Path, capsys: Captured) -> None:
    options = ["--weights", str(weights)]
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "text.md").write_text("x")
    assert "there is no folder" in _refused([str(tmp_path / "nowhere"), *options], capsys)
    assert "no shard at" in _refused([str(tmp_path / "val-{0..1}.tar"), *options], capsys)
    assert "no class sub-folders" in _refused([str(empty), *options], capsys)
    assert "neither a folder" in _refused([str(tmp_path / "text.md"), *options], capsys)
    (folder / "cat").rename(folder / "lion")
    assert "'lion' is none of the model's 6 classes (cat," in _refused([str(folder), *options], capsys)


def test_wrong_shards(tmp_path: Path, shards: Path, weights: Path, write_shard: WriteShard, capsys: Captured) -> None:
    options = ["--weights", str(weights)]
    whole = (shards / "val-000000.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    assert "cut.tar" in _refused([str(tmp_path / "cut.tar"), *options], capsys)
    write_shard(tmp_path / "six.tar", [("a", 6, b"x")])
    assert "label 6, but the model has 6 classes (0 to 5)" in _refused([str(tmp_path / "six.tar"), *options], capsys)
    write_shard(tmp_path / "minus.tar", [("a", -1, b"x")])
    assert "label -1, but labels count from 0" in _refused([str(tmp_path / "minus.tar"), *options], capsys)
    write_shard(tmp_path / "none.tar", [])
    assert "hold no sample" in _refused([str(tmp_path / "none.tar"), *options], capsys)
    write_shard(tmp_path / "bad.tar", [("a", 1, b"no picture")])
    assert "none of the 1 images could be read; the first: a: " in _refused(
        [str(tmp_path / "bad.tar"), *options], capsys
    )


@pytest.mark.parametrize("content", ["{}", '[{"index": 1, "name": "cat"}]', "[", '[{"name": "cat"}]', "[1]"])
def test_wrong_classes_json(content: str, shards: Path, weights: Path, capsys: Captured) -> None:
    (shards / "classes.json").write_text(content)
    said = _refused([str(shards), "--weights", str(weights)], capsys)
    assert "classes.json is not a list of class names" in said
    assert "remove it where the labels are the model's own" in said


def test_wrong_options(tmp_path: Path, folder: Path, weights: Path, capsys: Captured) -> None:
    options = [str(folder), "--weights", str(weights)]
    assert "use one of .txt, .json" in _refused([*options, "--output", str(tmp_path / "a.csv")], capsys)
    assert "there is no folder" in _refused([*options, "--output", str(tmp_path / "no" / "a.json")], capsys)
    assert "--img-size is '2y'" in _refused([*options, "--img-size", "2y"], capsys)
    assert "not tiled by patches" in _refused([*options, "--img-size", "33"], capsys)
    assert "there is no model 'convit_bas'" in _refused([str(folder), "--model", "convit_bas"], capsys)
    assert "check the path" in _refused([str(folder), "--weights", str(tmp_path / "no.safetensors")], capsys)


def test_a_split(tmp_path: Path, folder: Path, shards: Path, weights: Path, capsys: Captured) -> None:
    options = ["--weights", str(weights)]
    parent = tmp_path / "sets"
    parent.mkdir()
    folder.rename(parent / "val")
    assert main(["evaluate", str(parent), "--split", "val", *options]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 18
    assert main(["evaluate", str(shards), "--split", "val", *options]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 18
    assert "'test'" in _refused([str(parent), "--split", "test", *options], capsys)


def test_a_label_map(tmp_path: Path, folder: Path, weights: Path, capsys: Captured) -> None:
    (folder / "cat").rename(folder / "felis catus")
    (folder / "rocket").rename(folder / "Saturn V")
    names = {path.name: path.name for path in folder.iterdir()} | {"felis catus": "cat", "Saturn V": "rocket"}
    mapping = tmp_path / "map.json"
    mapping.write_text(json.dumps(names))
    options = [str(folder), "--weights", str(weights)]
    assert "'Saturn V'" in _refused(options, capsys)
    assert main(["evaluate", *options, "--classes", str(mapping)]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 18
    mapping.write_text(json.dumps(names | {"Saturn V": "spaceship"}))
    assert "'spaceship'" in _refused([*options, "--classes", str(mapping)], capsys)


def test_a_report(tmp_path: Path, folder: Path, weights: Path, capsys: Captured) -> None:
    report = tmp_path / "report"
    command = ["evaluate", str(folder), "--weights", str(weights), "--report", str(report)]
    assert main(command) == 0
    written = capsys.readouterr()
    assert json.loads(written.out)["count"] == 18
    assert str(report / "index.html") in written.err
    assert "<img" in (report / "index.html").read_text()
    kept = json.loads((report / "evaluation.json").read_text())
    assert len(kept["images"]["names"]) == 18
    assert main(command) == 2
    assert "holds evaluation.json already" in capsys.readouterr().err


def test_a_report_and_an_output_in_one_place(tmp_path: Path, folder: Path, weights: Path, capsys: Captured) -> None:
    report = tmp_path / "report"
    report.mkdir()
    options = [str(folder), "--weights", str(weights), "--report", str(report)]
    said = _refused([*options, "--output", str(report / "evaluation.json")], capsys)
    assert "lies in the report's folder" in said


def test_an_image_in_no_class(folder: Path, weights: Path, capsys: Captured) -> None:
    (folder / "loose.jpg").write_bytes((folder / "cat" / "0.jpg").read_bytes())
    said = _refused([str(folder), "--weights", str(weights)], capsys)
    assert "are in no class (loose.jpg, 1 in all); put each into the sub-folder of its class" in said


def test_a_name_that_is_no_utf8_costs_nothing(tmp_path: Path, folder: Path, weights: Path, capsys: Captured) -> None:
    (folder / "cat" / "0.jpg").rename(folder / "cat" / os.fsdecode(b"\xff.jpg"))
    output = tmp_path / "result.json"
    assert main(["evaluate", str(folder), "--weights", str(weights), "--output", str(output), "-q"]) == 0
    assert "file:cat/%FF.jpg" in json.loads(output.read_text())["images"]["names"]
