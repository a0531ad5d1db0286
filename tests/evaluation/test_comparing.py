"""Two results on the same images: their difference, whether it is chance, and results that cannot be compared."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convit.cli import main
from convit.evaluation import compare

Captured = pytest.CaptureFixture[str]


def _write(path: Path, ranks: list[int], **changes: Any) -> str:
    count = len(ranks)
    images = {
        "places": list(range(count)),
        "names": [f"{number}.jpg" for number in range(count)],
        "ranks": ranks,
        "losses": [0.5 * (1 + rank) for rank in ranks],
    }
    images |= changes.pop("images", {})
    result = {"model": path.stem, "top1": 0.0, "data": {}, "data_sha256": "abc", "classes": 9, "competing": 9}
    path.write_text(json.dumps(result | {"images": images} | changes))
    return str(path)


def test_a_clear_difference(tmp_path: Path) -> None:
    # 40 images that only the second gets right, 10 that only the first does: exact McNemar, p = 2 P(X <= 10), n = 50
    first = _write(tmp_path / "first.json", [0] * 10 + [1] * 40 + [0] * 50)
    second = _write(tmp_path / "second.json", [1] * 10 + [0] * 90)
    found = compare(first, second)
    assert (found.only_first, found.only_second, found.count) == (10, 40, 100)
    assert found.p_value == pytest.approx(2.386e-05, rel=1e-3)
    assert (found.first.top1, found.second.top1, found.differences["top1"]) == (60.0, 90.0, 30.0)
    assert found.differences["top5"] == 0.0
    assert found.differences["loss"] == pytest.approx(-0.15)
    low, high = found.intervals["top1"]
    assert 15 < low < 30 < high < 45
    assert found.significant
    assert "second.json is significantly better than" in found.verdict
    assert compare(second, first).verdict.startswith(second)
    assert "difference" in found._repr_html_()
    assert compare(second, first).differences["top1"] == -30.0


def test_pairs_are_kept_together(tmp_path: Path) -> None:
    # the same images are hard for both, so that the difference is far surer than either figure
    ranks = np.random.default_rng(0).integers(2, size=400)
    better = ranks.copy()
    better[np.flatnonzero(ranks)[:8]] = 0
    found = compare(_write(tmp_path / "a.json", ranks.tolist()), _write(tmp_path / "b.json", better.tolist()))
    assert found.differences["top1"] == pytest.approx(2.0)
    assert found.intervals["top1"][0] > 0
    assert found.p_value == pytest.approx(2 * 0.5**8)


def test_no_difference(tmp_path: Path) -> None:
    a, b = (_write(tmp_path / f"{name}.json", [0, 1, 0, 1]) for name in "ab")
    found = compare(a, b)
    assert (found.p_value, found.significant) == (1.0, False)
    assert found.verdict.startswith("no significant difference")
    c = _write(tmp_path / "c.json", [0, 0, 0, 1])
    assert (compare(a, c).p_value, compare(a, c).differences["top1"]) == (1.0, 25.0)


def test_images_that_one_could_not_read_are_left_out(tmp_path: Path) -> None:
    a = _write(tmp_path / "a.json", [0, 1, 0])
    short = {"places": [0, 2], "names": ["0.jpg", "2.jpg"], "ranks": [1, 0], "losses": [1.0, 0.5]}
    found = compare(a, _write(tmp_path / "b.json", [1, 0], images=short))
    assert (found.count, found.left_out, found.only_first, found.only_second) == (2, 1, 1, 0)


def test_label_maps_of_two_models_make_no_other_images(tmp_path: Path) -> None:
    a = _write(tmp_path / "a.json", [0, 1], data_sha256="one", data={"images_sha256": "same"})
    b = _write(tmp_path / "b.json", [0, 1], data_sha256="two", data={"images_sha256": "same"})
    assert compare(a, b).count == 2


def test_the_command(tmp_path: Path, folder: Path, weights: Path, capsys: Captured) -> None:
    a, b = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    for output, more in ((a, []), (b, ["--tta", "flip"])):
        assert main(["evaluate", str(folder), "--weights", str(weights), "-o", output, "-q", *more]) == 0
    assert main(["evaluate", "--compare", a, b, "--format", "table"]) == 0
    shown = capsys.readouterr().out
    for part in ("a.json", "b.json", "top-1", "right alone", "18 images"):
        assert part in shown
    assert main(["evaluate", "--compare", a, b]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["count"], found["first"]["model"]) == (18, "six.safetensors")
    assert found["differences"]["loss"] != 0.0
    assert main(["evaluate", "--compare", a, b, "--output", str(tmp_path / "c.json")]) == 0
    assert json.loads((tmp_path / "c.json").read_text())["verdict"] == found["verdict"]


def test_what_cannot_be_compared(tmp_path: Path, folder: Path, capsys: Captured) -> None:
    a = _write(tmp_path / "a.json", [0, 1])
    (tmp_path / "text.json").write_text("[")
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "figures.json").write_text(json.dumps(json.loads(Path(a).read_text()) | {"images": None}))
    for file, said in (
        ("nowhere.json", "nowhere.json"),
        ("text.json", "text.json is not valid JSON"),
        ("other.json", "other.json is not a result of `convit evaluate`"),
        ("figures.json", "without the images behind them; write it with `convit evaluate --output FILE`"),
        (Path(_write(tmp_path / "data.json", [0, 1], data_sha256="def")).name, "are of other images (sha256 abc"),
        (Path(_write(tmp_path / "few.json", [0, 1], competing=3)).name, "(all of the model's, 3 of the model's 9)"),
        (Path(_write(tmp_path / "names.json", [0, 1], images={"names": ["x", "y"]})).name, "0.jpg stands where"),
        (Path(_write(tmp_path / "apart.json", [0, 1], images={"places": [7, 8]})).name, "have no image in common"),
        (Path(_write(tmp_path / "cut.json", [0, 1], images={"losses": [1.0]})).name, "cut.json is damaged"),
        (Path(_write(tmp_path / "no.json", [0, 1], images={"ranks": [0, None]})).name, "no.json is damaged"),
        (Path(_write(tmp_path / "far.json", [0, 1], images={"ranks": [0, math.inf]})).name, "far.json is damaged"),
        (Path(_write(tmp_path / "all.json", [0, 1], classes=math.inf)).name, "all.json is not a result of"),
        (Path(_write(tmp_path / "odd.json", [0, 1], images={"names": None})).name, "odd.json is damaged"),
        (Path(_write(tmp_path / "list.json", [0, 1], data=["x"])).name, "list.json is not a result of"),
    ):
        assert main(["evaluate", "--compare", a, str(tmp_path / file)]) == 2
        written = capsys.readouterr()
        assert said in written.err
        assert (written.out, written.err.count("\n")) == ("", 1)
    assert main(["evaluate", str(folder), "--compare", a, a, "--tta", "flip"]) == 2
    assert "evaluates nothing; leave DATA and --tta out" in capsys.readouterr().err
    assert main(["evaluate"]) == 2
    assert "no images to evaluate on" in capsys.readouterr().err
