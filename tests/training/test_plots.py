"""Figures of runs: what is drawn, that nothing overlaps, and that damaged runs are named."""

import itertools
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

import convit
from convit.output.plots import INK, SERIES_COLORS, SERIES_MARKERS, save_figure
from convit.training.plots import draw_runs

BUNDLED = Path(convit.__file__).parent / "weights" / "bundled" / "convit_nano_patch4_32.cifar10.log.jsonl"


def _write(folder: Path, epochs: int = 5, layers: int = 0, gated: int = 0, **changes: Any) -> Path:
    """A run of smooth curves; with `layers`, with an attention log of 4 heads."""
    folder.mkdir(parents=True)
    lines = [
        {
            "epoch": epoch,
            "train_loss": 2.0 / epoch,
            "val_loss": 1.5 / epoch,
            "val_top1": 90.0 * epoch / epochs,
            "lr": 1e-3 * (1 - epoch / epochs) + 1e-5,
            **changes,
        }
        for epoch in range(1, epochs + 1)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if layers:
        head = np.arange(4) / 40
        looks = [
            {
                "epoch": epoch,
                "gates": [list(0.7 - 0.05 * epoch * layer / layers + head) for layer in range(gated)],
                "nonlocality": [list(1 + 0.1 * epoch * layer + head) for layer in range(layers)],
            }
            for epoch in range(epochs + 1)
        ]
        if not gated:
            looks = [{key: value for key, value in look.items() if key != "gates"} for look in looks]
        (folder / "attention.jsonl").write_text("".join(json.dumps(look) + "\n" for look in looks))
    return folder


def _titles(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def _curves(axes: Axes) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]


def test_a_real_log_gives_its_numbers(tmp_path: Path) -> None:
    run = tmp_path / "cifar10"
    run.mkdir()
    (run / "log.jsonl").write_text(BUNDLED.read_text())
    lines = [json.loads(line) for line in BUNDLED.read_text().splitlines()]
    figure = draw_runs([run])
    loss, accuracy, rate = figure.axes
    epochs = [line["epoch"] for line in lines]
    assert _curves(loss) == [(epochs, [line[key] for line in lines]) for key in ("train_loss", "val_loss")]
    assert _curves(accuracy)[0] == (epochs, [line["val_top1"] for line in lines])
    assert _curves(rate) == [(epochs, [line["lr"] for line in lines])]
    best = max(lines, key=lambda line: line["val_top1"])
    assert accuracy.get_title(loc="left") == f"Held-out top-1: best {best['val_top1']:.1f} % at epoch {best['epoch']}"
    assert f"held-out {lines[-1]['val_loss']:.2f}" in loss.get_title(loc="left")
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "cross-entropy (nats)",
        "top-1 (%)",
        "learning rate ($10^{-3}$)",
    ]
    assert {axes.get_xlabel() for axes in figure.axes} == {"epoch"}


def test_gates_and_non_locality_are_means_over_heads(tmp_path: Path) -> None:
    figure = draw_runs([_write(tmp_path / "run", layers=3, gated=2)])
    gates, distance = figure.axes[3:5]
    looks = [json.loads(line) for line in (tmp_path / "run" / "attention.jsonl").read_text().splitlines()]
    for axes, key, layers in ((gates, "gates", 2), (distance, "nonlocality", 3)):
        values = np.array([look[key] for look in looks]).mean(axis=2)
        assert len(axes.lines) == layers
        for layer, (epochs, drawn) in enumerate(_curves(axes)):
            assert epochs == [0, 1, 2, 3, 4, 5]
            assert drawn == pytest.approx(list(values[:, layer]))
    bands = [np.asarray(band.get_paths()[0].vertices)[:, 1] for band in gates.collections]
    heads = np.array([look["gates"] for look in looks])
    for layer, band in enumerate(bands):
        assert (band.min(), band.max()) == pytest.approx((heads[:, layer].min(), heads[:, layer].max()))
    assert [text.get_text() for text in distance.get_legend().get_texts()] == ["1", "2", "3 (no gate)"]
    colors = [line.get_color() for line in distance.lines]
    assert [line.get_color() for line in gates.lines] == colors[:2]
    assert len({str(line.get_color()) for line in distance.lines}) == 3


def test_each_head_has_its_line_in_the_panel_of_its_layer(tmp_path: Path) -> None:
    figure = draw_runs([_write(tmp_path / "run", layers=3, gated=2)])
    looks = [json.loads(line) for line in (tmp_path / "run" / "attention.jsonl").read_text().splitlines()]
    values = np.array([look["gates"] for look in looks])
    layers = figure.axes[5:]
    assert [axes.get_title(loc="left") for axes in layers] == ["layer 1", "layer 2"]
    for layer, axes in enumerate(layers):
        *heads, mean = _curves(axes)
        assert heads == [([0, 1, 2, 3, 4, 5], list(values[:, layer, head])) for head in range(4)]
        assert mean[1] == pytest.approx(list(values[:, layer].mean(axis=1)))
        assert axes.lines[-1].get_color() == INK
        assert axes.get_ylim() == layers[0].get_ylim()
    (legend,) = [legend for part in figure.subfigs for legend in part.legends]
    assert [text.get_text() for text in legend.get_texts()] == ["head 1", "head 2", "head 3", "head 4", "mean"]


def test_no_two_of_many_heads_look_alike(tmp_path: Path) -> None:
    run = _write(tmp_path / "run", layers=1)
    look = {"epoch": 0, "gates": [list(np.arange(16) / 16)], "nonlocality": [[1.0] * 16]}
    (run / "attention.jsonl").write_text("".join(json.dumps(look | {"epoch": n}) + "\n" for n in (0, 1)))
    lines = draw_runs([run]).axes[5].lines
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == 17


def test_gates_stay_within_their_range(tmp_path: Path) -> None:
    run = _write(tmp_path / "run", layers=1, gated=1)
    for value in (0.0, 0.5, 1.0):
        (run / "attention.jsonl").write_text(
            "".join(json.dumps({"epoch": n, "gates": [[value]], "nonlocality": [[1.0]]}) + "\n" for n in (0, 1))
        )
        low, high = draw_runs([run]).axes[3].get_ylim()
        assert 0 <= low <= value <= high <= 1
        assert high - low >= 0.2 - 1e-9


def test_one_head_needs_no_panel_of_its_own(tmp_path: Path) -> None:
    run = _write(tmp_path / "run", layers=1)
    look = {"epoch": 0, "gates": [[0.5]], "nonlocality": [[1.0]]}
    (run / "attention.jsonl").write_text(json.dumps(look) + "\n")
    assert len(draw_runs([run]).axes) == 5


def test_several_runs_lie_over_each_other(tmp_path: Path) -> None:
    runs = [_write(tmp_path / name, epochs, layers=2, gated=1) for name, epochs in (("_one$1$", 3), ("two", 7))]
    figure = draw_runs(runs)
    assert _titles(figure) == [
        "Loss on training and held-out images", "Top-1 on held-out images", "Learning rate at the end of each epoch",
    ]  # fmt: skip
    assert [len(axes.lines) for axes in figure.axes] == [4, 2, 2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["_one$1$", "two"]
    for line, color, marker in zip(figure.axes[1].lines, SERIES_COLORS, SERIES_MARKERS, strict=False):
        assert (line.get_color(), line.get_marker()) == (color, marker)


def test_no_two_of_many_runs_look_alike(tmp_path: Path) -> None:
    figure = draw_runs([_write(tmp_path / str(number)) for number in range(9)])
    assert len({(line.get_color(), line.get_marker()) for line in figure.axes[1].lines}) == 9


def test_equal_names_are_told_apart_and_equal_folders_drawn_once(tmp_path: Path) -> None:
    a, b, c = (_write(tmp_path / name) for name in ("a/run", "b/run", "c"))
    figure = draw_runs([a, b, c, tmp_path / "b" / ".." / "a" / "run"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a/run", "b/run", "c"]


def test_missing_panels_are_left_out(tmp_path: Path) -> None:
    assert len(draw_runs([_write(tmp_path / "a", val_loss=None, val_top1=None)]).axes) == 2
    assert _titles(draw_runs([_write(tmp_path / "b", layers=2)]))[3:] == [
        "Non-locality: how far each layer reads on average"
    ]
    (empty := _write(tmp_path / "c") / "attention.jsonl").write_text("")
    assert len(draw_runs([empty.parent]).axes) == 3
    only = _write(tmp_path / "d", layers=2, gated=1, train_loss=None, val_loss=None, val_top1=None, lr=None)
    assert len(draw_runs([only]).axes) == 2 + 1


@pytest.mark.parametrize(
    ("epochs", "layers", "names"),
    [
        (1, 1, ["a"]),
        (300, 24, ["a run of a very long name that says everything there is to say about it, at length"]),
        (40, 0, ["a", "b"]),
        (40, 0, [f"run {number} with quite a long name, so that few of them fit" for number in range(9)]),
    ],
)
def test_nothing_overlaps_and_nothing_is_cut(tmp_path: Path, epochs: int, layers: int, names: list[str]) -> None:
    figure = draw_runs([_write(tmp_path / name, epochs, layers, max(0, layers - 2)) for name in names])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [axes.get_tightbbox(canvas.get_renderer()) for axes in figure.axes]
    legends = [legend for part in (figure, *figure.subfigs) for legend in part.legends]
    boxes += [each.get_window_extent() for each in [*legends, *([figure._suptitle] if len(names) == 1 else [])]]
    for first, second in itertools.combinations(boxes, 2):
        together = Bbox.intersection(first, second)
        assert together is None or together.width * together.height < 1
    for box in boxes:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")])
def test_the_suffix_chooses_the_format_and_the_same_run_gives_the_same_file(
    tmp_path: Path, suffix: str, start: bytes
) -> None:
    run = _write(tmp_path / "run", layers=3, gated=2)
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        save_figure(draw_runs([run]), file)
    assert files[0].read_bytes().startswith(start)
    assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(FileExistsError, match="exists already"):
        save_figure(draw_runs([run]), files[0])


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_names_that_no_font_has_are_spelled_out(tmp_path: Path, suffix: str) -> None:
    runs = [_write(tmp_path / os.fsdecode(name)) for name in (b"caf\xe9 $a$", "left\u202eright".encode())]
    for drawn in (runs[:1], runs[1:], runs):
        save_figure(draw_runs(drawn), path := tmp_path / f"figure{suffix}", overwrite=True)
        assert path.stat().st_size > 0
    if suffix == ".svg":
        assert "\u202e" not in path.read_text("utf-8")


def test_a_picture_is_large_enough_for_print(tmp_path: Path) -> None:
    file = tmp_path / "plot.png"
    save_figure(draw_runs([_write(tmp_path / "run", layers=3, gated=2)]), file)
    with Image.open(file) as image:
        assert image.width >= 1500
        assert np.asarray(image.convert("L")).std() > 5


def test_wrong_runs_are_named(tmp_path: Path) -> None:
    run = _write(tmp_path / "run", layers=2, gated=1)
    with pytest.raises(ValueError, match="at least one"):
        draw_runs([])
    with pytest.raises(FileNotFoundError, match=r"there is no run .*nowhere"):
        draw_runs([run, tmp_path / "nowhere"])
    (tmp_path / "bare").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no log\.jsonl in .*bare"):
        draw_runs([tmp_path / "bare"])
    (tmp_path / "bare" / "log.jsonl").write_text("\n")
    with pytest.raises(ValueError, match=r"log\.jsonl is empty; train at least one epoch"):
        draw_runs([tmp_path / "bare"])
    (tmp_path / "bare" / "log.jsonl").write_text('{"epoch": 1, "val_loss": null, "lr": "high"}\n')
    with pytest.raises(ValueError, match="no loss, no top-1 and no learning rate"):
        draw_runs([tmp_path / "bare"])
    (tmp_path / "bare" / "log.jsonl").write_text('{"epoch": 1, "val_')
    with pytest.raises(ValueError, match=r"log\.jsonl, line 1 is not valid JSON"):
        draw_runs([tmp_path / "bare"])
    for damaged in ('{"epoch": 6}', '{"epoch": 6, "nonlocality": [[1], [1, 2]], "gates": [[1]]}'):
        text = (run / "attention.jsonl").read_text()
        (run / "attention.jsonl").write_text(text + damaged + "\n")
        with pytest.raises(ValueError, match=r"attention\.jsonl: 'gates' is not a number for each"):
            draw_runs([run])
        (run / "attention.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"ends in none of \.png, \.svg, \.pdf"):
        save_figure(draw_runs([run]), tmp_path / "plot.jpg")


def test_a_value_that_is_no_number_leaves_a_gap(tmp_path: Path) -> None:
    run = _write(tmp_path / "run")
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    lines[1]["val_loss"], lines[2]["val_loss"] = None, math.nan
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert _curves(draw_runs([run]).axes[0])[1][0] == [1, 4, 5]
