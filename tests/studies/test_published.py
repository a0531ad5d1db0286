"""The studies in studies/results: their tables say what their results say."""

import json
from pathlib import Path

import pytest

from studies.results import Result, Scores

PUBLISHED = sorted((Path(__file__).parents[2] / "studies" / "results").iterdir())


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_the_table_is_that_of_the_results(folder: Path) -> None:
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert folder.name.startswith(content["study"])
    assert content["command"] in table
    assert content["machine"] in table
    scores = Scores(Result(**result) for result in content["results"])
    lines = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| ")}
    for result in scores.results:
        cell = scores.cell(result.model, result.column)
        assert f"| {cell} |" in lines[result.model]
    plot = (folder / "plot.svg").read_text(encoding="utf-8")
    assert all(f"<!-- {result.model} -->" in plot for result in scores.results)


def test_sample_efficiency_is_published() -> None:
    assert "sample-efficiency" in [folder.name for folder in PUBLISHED]
