"""Figures: one line per model with the seeds' range, one point per row of the ablation."""

from pathlib import Path

import numpy as np
import pytest

from studies.ablation import PAPER, plan_ablation
from studies.results import draw
from studies.sample_efficiency import default_models, plan_sample_efficiency, read_models
from tests.studies.results import scores
from tests.training.small import small_recipe, write_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def test_a_line_per_model_with_the_range_of_the_seeds(tmp_path: Path, data: Path) -> None:
    recipe = small_recipe(tmp_path)
    models = read_models(default_models(recipe), recipe)
    study = plan_sample_efficiency(recipe, models, [0.5, 1.0], 2, data)
    given = scores(ConViT={"50 %": [44.0, 46.0], "100 %": [60.0]}, DeiT={"50 %": [41.0, 43.0]})
    figure = draw(study, given)
    (axes,) = figure.axes
    lines = {container.get_label(): container for container in axes.containers}
    assert list(lines) == ["ConViT", "DeiT"]
    ours, _, bars = lines["ConViT"].lines
    assert list(ours.get_ydata()) == [45.0, 60.0]
    np.testing.assert_allclose(np.array(ours.get_xdata(), dtype=float), [0.5, 1.0], rtol=0.02)
    assert [segment[:, 1].tolist() for segment in bars[0].get_segments()] == [[44.0, 46.0], [60.0, 60.0]]
    assert list(lines["DeiT"].lines[0].get_ydata()) == [42.0]
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50 %", "100 %"]
    assert axes.get_ylabel() == "top-1 (%)"
    assert figure.get_suptitle() == "ConViT leads DeiT by 3.0 points at 50 %"


def test_a_point_per_row_of_the_ablation(tmp_path: Path, data: Path) -> None:
    study = plan_ablation(small_recipe(tmp_path), [0.5], 1, data)
    given = scores(**{row: {"50 %": [tenth, tenth + 1]} for row, (_, tenth) in PAPER.items()})
    figure = draw(study, given)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(PAPER)
    (points,) = axes.containers
    np.testing.assert_allclose(
        np.array(points.lines[0].get_xdata(), dtype=float), [tenth + 0.5 for _, tenth in PAPER.values()]
    )
    assert list(points.lines[0].get_ydata()) == list(range(len(PAPER)))
    assert figure.get_suptitle().replace("\n", " ") == (
        "Worth in points at 50 %: gates +2.3, convolutional init +2.8, both +5.1, GPSA +11.9"
    )
