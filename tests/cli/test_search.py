"""`convit index`, `convit search` and `convit duplicates` on real photographs."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from convit.images.names import text_path
from convit.output import write_rows

Runner = Callable[..., Any]
MODEL = "convit_nano_patch4_32.cifar10"


@pytest.fixture
def pictures(photos: Path, tmp_path: Path) -> Path:
    """The photographs, to be changed."""
    return Path(shutil.copytree(photos, tmp_path / "pictures"))


@pytest.fixture
def db(convit: Runner, pictures: Path, tmp_path: Path) -> Path:
    """An index of the photographs."""
    run = convit("index", pictures, "--db", tmp_path / "db", "--model", MODEL)
    assert run.code == 0
    counts = {"new": 4, "changed": 0, "removed": 0, "unchanged": 0}
    assert json.loads(run.out) == {"db": str(tmp_path / "db"), "images": 4, **counts}
    assert f"4 images in {tmp_path / 'db'}: 4 new, 0 changed, 0 removed, 0 as before" in run.err
    return tmp_path / "db"


def test_search_in_every_format(convit: Runner, db: Path, pictures: Path, tmp_path: Path) -> None:
    query = ("search", pictures / "cat.jpg", "--db", db, "-k", 2)
    in_pipe = convit(*query)
    found = in_pipe.rows
    assert in_pipe.code == 0
    assert [row["rank"] for row in found] == [1, 2]
    assert (found[0]["path"], found[0]["label"], found[0]["score"]) == ("cat.jpg", None, pytest.approx(1, abs=1e-5))
    for suffix in ("json", "jsonl", "csv", "parquet", "md", "txt"):
        assert convit(*query, "-o", tmp_path / f"found.{suffix}").code == 0
    assert json.loads((tmp_path / "found.json").read_text()) == found
    with (tmp_path / "found.csv").open() as file:
        assert [row["path"] for row in csv.DictReader(file)] == [row["path"] for row in found]
    assert pq.read_table(tmp_path / "found.parquet").to_pylist() == found
    assert "| 1 | cat.jpg |" in (tmp_path / "found.md").read_text()
    assert "cat.jpg" in (tmp_path / "found.txt").read_text()


def test_a_condition_and_a_page(convit: Runner, db: Path, pictures: Path, tmp_path: Path) -> None:
    page = tmp_path / "found.html"
    run = convit("search", pictures / "cat.jpg", "--db", db, "--where", "label = 'space'", "--html", page)
    assert sorted(row["path"] for row in run.rows) == ["space/astronaut.png", "space/rocket.jpg"]
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == 3  # the query and two
    assert "The 2 most similar of 4, of those where label = &#39;space&#39;, by vectors of " + MODEL in html
    assert convit("search", pictures / "cat.jpg", "--db", db, "--html", page).code == 2


def test_an_approximate_search(convit: Runner, db: Path, pictures: Path) -> None:
    run = convit("index", pictures, "--db", db, "--approximate-from", 2)
    assert run.code == 0
    assert "searches are approximate from now on" in run.err
    found = convit("search", pictures / "cat.jpg", "--db", db, "--approximate-from", 2)
    assert found.rows[0]["path"] == "cat.jpg"


def test_an_update_follows_the_folder(convit: Runner, db: Path, pictures: Path) -> None:
    (pictures / "cat.jpg").unlink()
    shutil.copy(pictures / "coffee.png", pictures / "again.png")
    (pictures / "broken.jpg").write_bytes(b"")
    run = convit("index", pictures, "--db", db)
    assert run.code == 3
    assert "4 images in" in run.err
    assert "1 new, 0 changed, 1 removed, 3 as before" in run.err
    assert "convit: done, 1 of 5 images skipped; the first: " in run.err
    assert "broken.jpg: is empty (0 bytes)" in run.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search", "{pictures}/cat.jpg", "--db", "{db}x"), "there is no index; make one with convit index"),
        (("search", "{pictures}/nothing.jpg", "--db", "{db}"), "no such file"),
        (("search", "{pictures}/cat.jpg", "--db", "{db}", "--where", "labl = 1"), "is not a condition over path"),
        (("search", "{pictures}/cat.jpg", "--db", "{db}", "-o", "a.docx"), "does not select a format"),
        (
            ("search", "{pictures}/cat.jpg", "--db", "{db}", "--weights", "{nano}"),
            f"was made by {MODEL}, but the model",
        ),
        (("index", "{pictures}/nothing", "--db", "{db}"), "no such folder"),
        (("index", "{pictures}", "--db", "{pictures}"), "holds other files and no index"),
        (("index", "{pictures}", "--db", "{db}\n2"), "LanceDB opens no folder with control characters in its path"),
        (("duplicates",), "name a folder of images or an index"),
        (("duplicates", "--db", "{db}", "--splits", "a,b"), "must be two or more of: none here"),
        (("duplicates", "--db", "{db}", "--threshold", "3"), "similarity is 3"),
        (
            ("duplicates", "--db", "{db}", "--device", "cpu", "--workers", "0"),
            "--device, --workers with --db has no effect",
        ),
    ],
)
def test_wrong_input_is_one_line(
    convit: Runner, db: Path, pictures: Path, nano: Path, arguments: tuple[str, ...], message: str
) -> None:
    convit(*(argument.format(db=db, pictures=pictures, nano=nano) for argument in arguments)).fails(message)


def test_a_damaged_store_is_one_line(convit: Runner, db: Path, pictures: Path) -> None:
    shutil.rmtree(db / "images.lance" / "data")
    convit("search", pictures / "cat.jpg", "--db", db).fails("the store is damaged")


def test_duplicates_of_a_folder_and_of_an_index(convit: Runner, db: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "other").mkdir()
    shutil.copy(pictures / "space" / "rocket.jpg", pictures / "other" / "same.jpg")
    page = tmp_path / "twice.html"
    (pictures / "phone.heic").write_bytes(b"")
    run = convit("duplicates", f"file://{pictures}", "--model", MODEL, "--html", page)
    assert run.code == 0
    assert "left out: 1 .txt, 1 .heic (pip install pillow-heif)" in run.err
    assert "convit: 1 pair among 5 images: 1 of identical files, 0 of near-copies; 1 under different labels" in run.err
    (pair,) = run.rows
    assert (pair["kind"], pair["first"], pair["second"]) == ("identical", "other/same.jpg", "space/rocket.jpg")
    assert (pair["labels_differ"], pair["first_label"], pair["second_label"]) == (True, "other", "space")
    assert page.read_text().count("data:image/jpeg;base64,") == 2
    assert "<b>different labels</b>" in page.read_text()
    assert convit("index", f"file://{pictures}/", "--db", db).code == 0
    listed = convit("duplicates", "--db", db, "-o", tmp_path / "twice.md")
    assert (listed.code, listed.out) == (0, "")
    text = (tmp_path / "twice.md").read_text()
    assert "1 pair among 5 images: 1 of identical files, 0 of near-copies; 1 under different labels" in text
    assert "at most 12 of 255 levels on average and whose correlation is at least 0.85." in text
    (pictures / "broken.jpg").write_bytes(b"")
    assert convit("duplicates", pictures, "--model", MODEL).code == 3


def test_names_that_are_no_utf8_cost_no_result(convit_process: Runner, pictures: Path, tmp_path: Path) -> None:
    strange = pictures / os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(pictures / "cat.jpg", strange)
    page = tmp_path / "twice.html"
    run = convit_process("duplicates", pictures, "--model", MODEL, "--html", page)
    said = "1 pair among 5 images: 1 of identical files, 0 of near-copies; 0 under different labels, 0 across splits"
    assert (run.code, run.err) == (0, f"convit: left out: 1 .txt\nconvit: {said}\n")
    (pair,) = run.rows
    assert (pair["first"], pair["second"]) == ("file:caf%E9.jpg", "cat.jpg")
    assert text_path(pair["first"]).name == strange.name
    assert "file:caf%E9.jpg" in page.read_text()
    for suffix, format in (("csv", "csv"), ("parquet", "parquet"), ("md", "markdown")):  # noqa: A001
        write_rows([pair], ("kind", "first"), tmp_path / f"twice.{suffix}", format)
    assert (tmp_path / "twice.csv").read_text() == "kind,first\nidentical,file:caf%E9.jpg\n"
    assert pq.read_table(tmp_path / "twice.parquet").column("first").to_pylist() == ["file:caf%E9.jpg"]
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")  # as standard output is
    write_rows([pair], ("first",), None, "table", stream=stream)
    stream.flush()
    assert b"file:caf%E9.jpg" in stream.buffer.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--threshold", "3"), "similarity is 3, but must be -1 to 1 as it is a cosine"),
        (("--difference", "300"), "difference is 300, but must be 0 to 255"),
        (("--splits", "train,val"), "splits is 'train,val', but must be two or more of: none here"),
    ],
)
def test_criteria_are_checked_before_anything_is_embedded(
    convit: Runner, pictures: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, str], message: str
) -> None:
    monkeypatch.setattr("convit.inference.Embedder", None)
    convit("duplicates", pictures, *option).fails(message)


def test_pages_in_a_browser(
    convit: Runner, db: Path, pictures: Path, tmp_path: Path, in_browser: Callable[[Path], str]
) -> None:
    found, twice = tmp_path / "found.html", tmp_path / "twice.html"
    assert convit("search", pictures / "cat.jpg", "--db", db, "--html", found).code == 0
    shutil.copy(pictures / "cat.jpg", pictures / "space" / "cat.jpg")
    assert convit("duplicates", pictures, "--model", MODEL, "--html", twice).code == 0
    for page in (found, twice):
        assert in_browser(page).count("<img") == page.read_text().count("<img ") > 0
