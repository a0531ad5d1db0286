"""A benchmark's results as figures and as a table with timm's columns."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks import plots
from benchmarks.plots import draw_figures, read_rows, to_csv
from convit.benchmark.running import Report
from tests.benchmark.small import ROWS, made_row


def test_timms_columns_come_first() -> None:
    lines = to_csv(ROWS).splitlines()
    # the header of timm's results/benchmark-infer-amp-nchw-pt291-cu128-4090.csv
    assert lines[0].startswith(
        "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count,infer_gmacs,infer_macts,"
    )
    assert lines[1].startswith("convit_base,224,10.0,800.0,8,86.54,17.52,31.77,ours,")
    assert lines[3].startswith("deit_base_patch16_224,224,8.0,800.0,8,")
    read = list(csv.DictReader(lines))
    assert [row["relation"] for row in read] == ["ours", "equal", "another"]
    assert (read[0]["gmacs_executed"], read[0]["tokens"], read[1]["ratio"]) == ("16.3", "196", "2.0")


def test_training_has_timms_training_columns() -> None:
    lines = to_csv([made_row(mode="train", width=448)]).splitlines()
    # the header of timm's results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv
    assert lines[0].startswith(
        "model,train_samples_per_sec,train_step_time,train_batch_size,train_img_size,param_count,candidate,"
    )
    assert lines[1].startswith("convit_base,10.0,800.0,8,224x448,86.54,ours,")


def test_throughput_is_drawn_over_batch_sizes() -> None:
    rows = [made_row(batch=batch, images_per_second=2.0 * batch) for batch in (64, 1, 8)]
    rows += [made_row(candidate="timm:x_y_z", relation="another", batch=8, images_per_second=9.0)]
    figures = draw_figures(rows)
    assert list(figures) == ["throughput.png"]
    assert _lines(figures["throughput.png"]) == [[([1, 8, 64], [2, 16, 128]), ([8], [9])]]
    legend = [text.get_text() for text in figures["throughput.png"].legends[0].get_texts()]
    assert legend == ["ours", "timm:x_y_z (another model)"]


def test_memory_is_drawn_over_sizes_with_time_beside_it() -> None:
    rows = [made_row(mode="memory", height=side, width=side, memory_mb=side / 4) for side in (224, 448)]
    figures = draw_figures(rows)
    assert list(figures) == ["sizes.png"]
    assert _lines(figures["sizes.png"]) == [[([224, 448], [100, 100])], [([224, 448], [56, 112])]]
    assert draw_figures([]) == {}


def test_sizes_are_drawn_of_throughput_too() -> None:
    rows = [made_row(height=side, width=2 * side) for side in (224, 448)]
    assert list(draw_figures(rows)) == ["throughput.png", "sizes.png"]


def test_files_are_made_from_what_the_command_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Report({}, ROWS).write(tmp_path)
    assert read_rows(tmp_path / "results.json") == ROWS
    monkeypatch.setattr(sys, "argv", ["plots.py", str(tmp_path)])
    plots.main()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "results.json", "throughput.png"]


def _lines(figure: Figure) -> list[list[tuple[list[float], list[float]]]]:
    """(places, values) of the lines of each panel that hold any."""
    return [
        [
            (np.round(line.get_xdata()).tolist(), np.round(line.get_ydata()).tolist())
            for line in axes.lines
            if len(line.get_xdata())
        ]
        for axes in figure.axes
    ]
