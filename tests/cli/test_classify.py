"""`convit classify` on real photographs."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from convit import Classifier
from convit.weights import class_names

NAMES = ["cat.jpg", "coffee.png", "space/astronaut.png", "space/rocket.jpg"]


@pytest.fixture(scope="module")
def run(convit: Callable[..., Any], photos: Path, nano: Path) -> Any:
    return convit("classify", photos, "--weights", nano, "--top-k", 3)


def test_rows_are_json_lines_in_order(run: Any, photos: Path) -> None:
    assert run.code == 0
    assert [row["path"] for row in run.rows] == [str(photos / name) for name in NAMES]
    for row in run.rows:
        assert list(row) == ["path", "predictions", "error"]
        assert row["error"] is None
        scores = [found["score"] for found in row["predictions"]]
        assert scores == sorted(scores, reverse=True)
        assert len(scores) == 3
        for found in row["predictions"]:
            assert found["label"] == class_names("cifar10")[found["index"]]


def test_rows_are_what_python_gives(run: Any, photos: Path, nano: Path) -> None:
    classifier = Classifier(weights=nano, top_k=3)
    for row, predictions in zip(run.rows, classifier([photos / name for name in NAMES]), strict=True):
        assert [found["index"] for found in row["predictions"]] == [found.index for found in predictions]
        assert [found["score"] for found in row["predictions"]] == pytest.approx([found.score for found in predictions])


def test_one_summary_line_on_stderr(run: Any) -> None:
    assert run.err.startswith("convit: 4 images in ")
    assert "images/s, waited for data " in run.err
    assert run.err.endswith("; left out: 1 .txt\n")
    assert run.err.count("\n") == 1


def test_what_was_chosen_at_the_start_is_said(
    convit: Callable[..., Any], photos: Path, nano: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cat = ("classify", photos / "cat.jpg", "--weights", nano)
    fastest = (*cat, "--precision", "fastest", "--img-size", "16x48", "--batch-size", 3, "--device", "cpu")
    monkeypatch.setattr("convit.optimization.precision.bfloat16_pays", lambda: False)
    told = "precision fp32 (fastest: no half precision is faster here, so nothing was timed)"
    assert convit(*fastest).err == f"convit: {told}\n"
    monkeypatch.setattr("convit.optimization.precision.bfloat16_pays", lambda: True)
    run = convit(*fastest)
    assert re.fullmatch(r"convit: precision \w+ \(fastest: 3 images of 16 x 48 took .* ms in fp32.*\)\n", run.err)
    monkeypatch.setattr("convit.optimization.plan.is_amd_avx512", lambda: True)
    told = "fp32 is not compiled: MKL would multiply, which is half as fast on AMD's AVX-512\n"
    run = convit(*cat, "--compile", "--device", "cpu")
    assert (run.code, run.err) == (0, f"convit: {told}")
    assert convit(*cat, "--compile", "--device", "cpu", "--quiet").err == ""


def test_quiet_and_single_images_have_no_summary(convit: Callable[..., Any], photos: Path, nano: Path) -> None:
    assert convit("classify", photos, "--weights", nano, "--quiet").err == ""
    assert convit("classify", photos / "cat.jpg", "--weights", nano).err == ""


def test_without_recursion(convit: Callable[..., Any], photos: Path, nano: Path) -> None:
    run = convit("classify", photos, "--weights", nano, "--no-recursive")
    assert [Path(row["path"]).name for row in run.rows] == ["cat.jpg", "coffee.png"]


def test_paths_keep_their_order(convit: Callable[..., Any], photos: Path, nano: Path) -> None:
    run = convit("classify", photos / "space", photos / "cat.jpg", "--weights", nano, "--batch-size", 2, "--workers", 0)
    assert [Path(row["path"]).name for row in run.rows] == ["astronaut.png", "rocket.jpg", "cat.jpg"]


def test_the_suffix_chooses_the_format(
    run: Any, convit: Callable[..., Any], photos: Path, nano: Path, tmp_path: Path
) -> None:
    expected = [(row["path"], row["predictions"][0]["label"]) for row in run.rows]
    for suffix in ("json", "jsonl", "csv", "parquet"):
        file = tmp_path / f"labels.{suffix}"
        written = convit("classify", photos, "--weights", nano, "--output", file)
        assert (written.code, written.out) == (0, "")
        assert _read(file) == expected
    assert sorted(tmp_path.iterdir()) == sorted(tmp_path / f"labels.{s}" for s in ("json", "jsonl", "csv", "parquet"))


def test_format_beats_the_suffix(convit: Callable[..., Any], photos: Path, nano: Path, tmp_path: Path) -> None:
    convit("classify", photos / "cat.jpg", "--weights", nano, "--output", tmp_path / "labels.csv", "--format", "json")
    assert json.loads((tmp_path / "labels.csv").read_text())[0]["path"] == str(photos / "cat.jpg")


def test_a_terminal_gets_a_table(convit: Callable[..., Any], photos: Path, nano: Path) -> None:
    run = convit("classify", photos / "cat.jpg", "--weights", nano, "--top-k", 1, terminal={"out"})
    assert run.code == 0
    assert "score" in run.out
    assert " %" in run.out
    assert not run.out.startswith("{")


def test_many_images_move_a_bar_on_a_terminal(
    convit: Callable[..., Any], photos: Path, nano: Path, tmp_path: Path
) -> None:
    command = ("classify", photos, photos, "--weights", nano, "--output", tmp_path / "labels.csv")
    shown = convit(*command, terminal={"err"})
    assert "images" in shown.err
    assert "8/8" in shown.err
    assert shown.out == ""
    assert "8/8" not in convit(*command, "--overwrite").err
    assert convit(*command, "--overwrite", "--quiet", terminal={"err"}).err == ""


def test_overwrite(convit: Callable[..., Any], photos: Path, nano: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text("precious")
    assert convit("classify", photos / "cat.jpg", "--weights", nano, "-o", file, "--overwrite").code == 0
    assert json.loads(file.read_text())["path"] == str(photos / "cat.jpg")


def test_image_size_and_precision(convit: Callable[..., Any], photos: Path, nano: Path) -> None:
    options = ("--weights", nano, "--img-size", "32x64", "--precision", "bf16", "--device", "cpu")
    run = convit("classify", photos / "cat.jpg", *options)
    assert run.code == 0
    assert len(run.rows[0]["predictions"]) == 5


def test_exif_orientation_can_be_left_alone(
    convit: Callable[..., Any], photos: Path, nano: Path, tmp_path: Path
) -> None:
    from PIL import Image

    turned = Image.open(photos / "cat.jpg").convert("RGB").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    turned.save(tmp_path / "plain.png")
    scores = {}
    for name, options in (("turned.png", ()), ("turned.png", ("--no-exif",)), ("plain.png", ())):
        run = convit("classify", tmp_path / name, "--weights", nano, "--top-k", 10, *options)
        scores[name, options] = {each["label"]: each["score"] for each in run.rows[0]["predictions"]}
    plain = scores["plain.png", ()]
    # matrix products give the last digit by where their operands lie in memory
    assert scores["turned.png", ("--no-exif",)] == pytest.approx(plain, rel=1e-4)
    assert scores["turned.png", ()] != pytest.approx(plain, rel=1e-3)


def test_fast_decoding_is_close(convit: Callable[..., Any], photos: Path, nano: Path) -> None:
    scores = {}
    for options in ((), ("--fast-decode",)):
        run = convit("classify", photos / "cat.jpg", "--weights", nano, "--top-k", 10, *options)
        scores[options] = {each["label"]: each["score"] for each in run.rows[0]["predictions"]}
    assert scores["--fast-decode",] != scores[()]
    assert scores["--fast-decode",] == pytest.approx(scores[()], abs=0.02)


def _read(file: Path) -> list[tuple[str, str]]:
    """Each row's path and best label."""
    if file.suffix == ".csv":
        with file.open(newline="") as opened:
            return [(row["path"], row["label_1"]) for row in csv.DictReader(opened)]
    if file.suffix == ".parquet":
        return [(row["path"], row["label_1"]) for row in pq.read_table(file).to_pylist()]
    text = file.read_text()
    rows = json.loads(text) if file.suffix == ".json" else [json.loads(line) for line in text.splitlines()]
    return [(row["path"], row["predictions"][0]["label"]) for row in rows]
