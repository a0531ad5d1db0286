"""The README tells the truth: its table is the one that is counted, its snippets run, its links lead somewhere."""

import re
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from docs.make_readme import README, filled

TEXT = README.read_text(encoding="utf-8")
SPEED = (README.parent / "docs" / "speed.md").read_text(encoding="utf-8")


def _snippet(name: str, text: str = TEXT) -> str:
    found = re.search(rf"<!-- snippet: {name} -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.fixture
def _photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(data.coffee()).save(tmp_path / "photo.jpg", quality=95)
    monkeypatch.chdir(tmp_path)


def test_the_table_of_models_is_up_to_date() -> None:
    assert filled(TEXT) == TEXT, "run: python docs/make_readme.py"


@pytest.mark.usefixtures("_photo")
def test_the_predictors_snippet_runs() -> None:
    names: dict[str, object] = {}
    exec(_snippet("bundled"), names)
    assert names["best"].label == "espresso"
    assert names["vectors"].shape == (1, 256)


@pytest.mark.usefixtures("_photo")
def test_timms_snippet_runs_with_one_import_changed() -> None:
    # the published weights are not to be had on every machine; everything else is as it stands
    snippet = _snippet("hub")
    assert "pretrained=True" in snippet
    names: dict[str, object] = {}
    exec(snippet.replace("pretrained=True", "pretrained=False"), names)
    assert names["logits"].shape == (1, 1000)
    assert names["features"].shape == (1, 197, 768)


def test_the_snippet_on_speed_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(_snippet("bundled", SPEED), names)
    assert names["logits"].shape == (1, 10)
    assert "products: " in capsys.readouterr().out


def test_links_lead_to_files() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", TEXT, re.M)
    }
    for target in re.findall(r"\]\((?!http)([^)]+)\)", TEXT):
        assert target[1:] in headings if target.startswith("#") else (README.parent / target).exists(), target
