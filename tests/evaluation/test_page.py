"""The report of an evaluation: a page that shows what was found, tables beside it, and nothing half-written."""

import base64
import csv
import dataclasses
import io
import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convit.evaluation.page import FILES, check_report, percent, worst_mistakes, write_report
from tests.evaluation.made import SIX, MadeImages, made_evaluation, made_scores

SCRIPT = "<script>alert(1)</script>"


class _Page(HTMLParser):
    """Text and tags of a page; those that HTML has no end for are not counted as open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.links, self.images = "", list[str](), list[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.links += [values[key] or "" for key in ("src", "href", "xlink:href") if key in values]
        if tag == "img":
            self.images.append(values["src"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def _rows(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.read_text())))


def _shown(mistake: dict[str, str]) -> io.BytesIO:
    return io.BytesIO(base64.b64decode(mistake["image"].partition(",")[2]))


def test_a_report_is_a_page_its_figures_and_its_tables(tmp_path: Path) -> None:
    evaluation = made_evaluation(made_scores())
    folder = tmp_path / "a" / "report"
    write_report(evaluation, MadeImages(61), folder)
    assert sorted(file.name for file in folder.iterdir()) == sorted(FILES)
    assert json.loads((folder / "evaluation.json").read_text()) == json.loads(evaluation.to_json(with_images=True))
    for name in ("reliability", "confusion", "per_class"):
        with Image.open(folder / f"{name}.png") as image:
            assert min(image.size) > 350
    text = _Page((folder / "index.html").read_text()).text
    for part in (
        "convit_made on photographs",
        f"{evaluation.correct_top1} of 60 images right",
        f"{evaluation.top1:.2f} %",
        "95 %: {:.2f} to {:.2f}".format(*evaluation.intervals["top1"]),
        "sha256 " + "ab" * 32,
        "crop pct 1.0",
        "1/7.jpg is empty (0 bytes)",
    ):
        assert part in text


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    write_report(made_evaluation(made_scores()), MadeImages(61), tmp_path / "report")
    text = (tmp_path / "report" / "index.html").read_text()
    page = _Page(text)
    assert len(page.images) > 5
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert not {"iframe", "object", "embed"} & set(page.tags)
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert "default-src 'none'" in text


def test_tables_hold_every_class_pair_and_image(tmp_path: Path) -> None:
    names = tuple(f'{number}, "odd"\n=name' for number in range(60))
    scores = made_scores(names=names)
    evaluation = made_evaluation(scores)
    write_report(evaluation, MadeImages(61), tmp_path / "report")
    images = _rows(tmp_path / "report" / "predictions.csv")
    assert [row["name"] for row in images] == list(names)
    assert [int(row["place"]) for row in images] == scores.places.tolist()
    assert 7 not in scores.places
    assert [float(row["loss"]) for row in images] == pytest.approx(scores.losses.tolist(), rel=1e-6)
    assert [(int(row["label"]), row["label_name"]) for row in images] == [(n, SIX[n]) for n in scores.labels]
    pairs = _rows(tmp_path / "report" / "confusion.csv")
    assert [tuple(int(row[key]) for key in ("right", "predicted", "count")) for row in pairs] == [*evaluation.confusion]
    assert sum(int(row["count"]) for row in pairs) == 60
    classes = _rows(tmp_path / "report" / "per_class.csv")
    assert [row["name"] for row in classes] == list(SIX)
    assert [float(row["top1"]) for row in classes] == [row["top1"] for row in evaluation.per_class]
    assert classes[5]["mistaken_for_name"] == SIX[int(classes[5]["mistaken_for"])]


def test_the_worst_mistakes_are_read_alone_and_shown_first() -> None:
    scores, images = made_scores(images=200), MadeImages(201, broken=[3])
    found = worst_mistakes(made_evaluation(scores), images)
    wrong = np.flatnonzero(~scores.right())
    assert len(found) == 24 < len(wrong)
    losses = np.sort(scores.losses[wrong])[::-1][:24]
    assert [mistake["loss"] for mistake in found] == losses.tolist()
    assert all(mistake["right"] != mistake["predicted"] and mistake["place"] > 1 for mistake in found)
    assert [mistake["probability"] for mistake in found] == [percent(share) for share in np.exp(-losses)]
    assert len(images.read) == 24
    for mistake in found:
        place = int(scores.places[scores.names.index(mistake["name"])])
        with Image.open(_shown(mistake)) as image:
            assert (image.format, image.size) == ("JPEG", (160, 96))
            # each picture has the color of its place
            assert abs(np.asarray(image)[48, 80, 0].astype(int) - place) < 4


def test_small_pictures_keep_their_pixels_and_lost_ones_are_said_to_be(tmp_path: Path) -> None:
    scores = made_scores()
    first = worst_mistakes(made_evaluation(scores), MadeImages(61, (32, 32)))
    assert all(mistake["small"] and _shown(mistake).read(4) == b"\x89PNG" for mistake in first)
    lost = int(scores.places[scores.names.index(first[0]["name"])])
    write_report(made_evaluation(scores), MadeImages(61, (32, 32), broken=[lost]), tmp_path / "report")
    page = _Page((tmp_path / "report" / "index.html").read_text())
    assert "cannot be shown" in page.text
    assert len(page.images) == len(first) - 1


def test_names_cannot_become_part_of_the_page(tmp_path: Path) -> None:
    names = (SCRIPT, "a & b", *SIX[2:])
    scores = made_scores(names=[f"{SCRIPT}{number}" for number in range(60)])
    errors = ({"name": SCRIPT, "error": f"{SCRIPT} is empty"},)
    plain = made_evaluation(made_scores())
    for folder, evaluation in {
        "plain": plain,
        "odd": made_evaluation(scores, names, model=SCRIPT, errors=errors, data={"name": SCRIPT}),
    }.items():
        write_report(evaluation, MadeImages(61), tmp_path / folder)
    odd, usual = (_Page((tmp_path / name / "index.html").read_text()) for name in ("odd", "plain"))
    assert odd.tags.count("script") == usual.tags.count("script") == 1
    assert odd.text.count(SCRIPT) > 10


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    names = [f"{number}\udcff.jpg" for number in range(60)]
    write_report(made_evaluation(made_scores(names=names)), MadeImages(61), tmp_path / "report")
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text())["images"]["names"][3] == names[3]


def test_tables_for_spreadsheets(tmp_path: Path) -> None:
    evaluation = made_evaluation(made_scores(names=[f"=1+{number}" for number in range(60)]))
    write_report(evaluation, MadeImages(61), tmp_path / "report", spreadsheet_safe=True)
    assert _rows(tmp_path / "report" / "predictions.csv")[3]["name"] == "'=1+3"


def test_many_classes_are_a_table_of_pairs_instead_of_a_map(tmp_path: Path) -> None:
    names = tuple(f"class {number}" for number in range(100))
    write_report(made_evaluation(made_scores(100, 2000), names), MadeImages(2001), tmp_path / "many")
    write_report(made_evaluation(made_scores()), MadeImages(61), tmp_path / "few")
    many, few = (_Page((tmp_path / name / "index.html").read_text()) for name in ("many", "few"))
    assert (many.tags.count("svg"), few.tags.count("svg")) == (2, 3)
    assert many.tags.count("tr") == 1 + 30 + 1 + 100


def test_without_a_mistake(tmp_path: Path) -> None:
    scores = made_scores()
    perfect = dataclasses.replace(scores, predicted=scores.labels, ranks=0 * scores.ranks)
    images = MadeImages(61)
    write_report(made_evaluation(perfect, unreadable=0, errors=()), images, tmp_path / "report")
    text = _Page((tmp_path / "report" / "index.html").read_text()).text
    assert "Every image is classified correctly" in text
    assert "The worst mistakes" not in text
    assert images.read == []


def test_a_report_is_not_overwritten_unasked(tmp_path: Path) -> None:
    folder, images = tmp_path / "report", MadeImages(61)
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    check_report(folder)
    write_report(made_evaluation(made_scores()), images, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    read = len(images.read)
    for refuse in (lambda: check_report(folder), lambda: write_report(made_evaluation(made_scores()), images, folder)):
        with pytest.raises(FileExistsError, match=r"report: holds evaluation\.json already; choose another folder, or"):
            refuse()
    assert len(images.read) == read
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    check_report(folder, overwrite=True)
    write_report(made_evaluation(made_scores(seed=4)), images, folder, overwrite=True)
    assert (folder / "index.html").read_bytes() != before["index.html"]
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    check_report(tmp_path / "new" / "report")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file: is a file, not a folder"):
        check_report(tmp_path / "file")
    with pytest.raises(NotADirectoryError, match="is a file, not a folder"):
        check_report(tmp_path / "file" / "report")
    with pytest.raises(ValueError, match="has no scores of its images"):
        write_report(
            dataclasses.replace(made_evaluation(made_scores()), scores=None), MadeImages(61), tmp_path / "report"
        )
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_missing_package_is_one_line(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package}.*pip install 'convit\[evaluate\]'") as caught:
        check_report(tmp_path / "report")
    assert "\n" not in str(caught.value)


def test_shares_are_not_rounded_to_nothing_or_all() -> None:
    assert [percent(share) for share in (0, 1e-9, 0.05, 0.5, 0.995, 1 - 1e-9, 1)] == [
        "0 %", "under 0.1 %", "5.0 %", "50 %", "99.5 %", "over 99.9 %", "100 %",
    ]  # fmt: skip


def test_the_page_sorts_in_a_browser(tmp_path: Path, in_browser: Callable[[Path], str]) -> None:
    evaluation = made_evaluation(made_scores())
    write_report(evaluation, MadeImages(61), tmp_path / "report")
    page = tmp_path / "report" / "index.html"
    # what a reader does: click on a heading twice
    clicks = "for (let n = 0; n < 2; n++) document.querySelectorAll('table')[1].querySelectorAll('button')[3].click();"
    (tmp_path / "clicked.html").write_text(page.read_text().replace("</body>", f"<script>{clicks}</script></body>"))
    rows = sorted((row["top1"] for row in evaluation.per_class), reverse=True)
    for file, order in ((page, [row["top1"] for row in evaluation.per_class]), (tmp_path / "clicked.html", rows)):
        shown = in_browser(file)
        table = shown.partition("Each class</h2>")[2].partition("</table>")[0]
        drawn = [re.findall(r'data-value="([^"]+)"', row) for row in table.split("<tr>")[2:]]
        assert [float(row[2]) for row in drawn] == pytest.approx(order)
        assert table.count('aria-sort="descending"') == (file != page)


def test_names_that_run_from_right_to_left_are_set_apart(tmp_path: Path) -> None:
    hebrew = "\u05d7\u05ea\u05d5\u05dc\u202e"
    names = (hebrew, *SIX[1:])
    scores = made_scores(names=[f"{hebrew}{number}.jpg" for number in range(60)])
    errors = ({"name": hebrew, "error": f"{hebrew} is empty"},)
    write_report(made_evaluation(scores, names, model=hebrew, errors=errors), MadeImages(61), tmp_path / "report")
    kept = (tmp_path / "report" / "evaluation.json").read_text()
    assert kept.replace("\n", "").isprintable()
    assert json.loads(kept)["class_names"] == list(names)
    text = (tmp_path / "report" / "index.html").read_text().partition("<main>")[2]
    drawn = re.sub(r"<svg.*?</svg>|<img [^>]*>|aria-label=\"[^\"]*\"", "", text, flags=re.DOTALL)
    assert drawn.count(hebrew) > 20
    assert len(re.findall(f"<bdi>[^<]*{hebrew}[^<]*</bdi>", drawn)) == len(re.findall(f"[^<>]*{hebrew}[^<>]*", drawn))
