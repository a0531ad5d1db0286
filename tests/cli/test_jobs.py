"""`embed` and `classify` into a folder: one file per shard, no image lost or twice, whatever happened before."""

import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.cli.conftest import Run

MODEL = ("--model", "convit_nano_patch4_32.cifar10", "--workers", "0")
Convit = Callable[..., Run]


def rows(output: Path) -> dict[str, Any]:
    """Path → what else the results of all shards say of it; a path that is there twice fails."""
    files = [str(file) for file in output.glob("0*.parquet")]
    found = pyarrow.dataset.dataset(files).to_table().to_pylist()
    named = {row.pop("path"): row for row in found}
    assert len(named) == len(found)
    return named


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Rows are equal but for what the size of a batch changes in the last bits."""
    assert found.keys() == expected.keys()
    for path, row in expected.items():
        assert found[path]["error"] == row["error"]
        if row["error"] is None:
            np.testing.assert_allclose(found[path]["embedding"], row["embedding"], rtol=0, atol=1e-5)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Nine small images and a broken one."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(9):
        Image.new("RGB", (40, 30 + number), (25 * number, 99, 200)).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing more")
    return folder


@pytest.fixture
def plain(convit: Convit, images: Path, tmp_path: Path) -> dict[str, Any]:
    """The rows of an ordinary run."""
    file = tmp_path / "plain.parquet"
    assert convit("embed", images, *MODEL, "-o", file).code == 3
    return {row.pop("path"): row for row in pq.read_table(file).to_pylist()}


def test_shards_hold_the_rows_of_an_ordinary_run(
    convit: Convit, images: Path, tmp_path: Path, plain: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    job = ("embed", images, *MODEL, "-o", f"{out}/", "--images-per-shard", 3)
    first = convit(*job, "--shard", "0/2")
    assert (first.code, first.rows[0]["shards"], first.rows[0]["images"]) == (0, 2, 6)
    assert "part 0/2: 2 of 4 shards, 0 done before, 2 to do" in first.err
    rest = convit(*job)
    assert (rest.code, rest.rows[0]["before"], rest.rows[0]["shards"], rest.rows[0]["unreadable"]) == (3, 2, 2, 1)
    assert "some of them were done as part 0/2; they stay" in rest.err
    assert "1 image skipped" in rest.err
    assert_same(rows(out), plain)
    times = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    again = convit("embed", images, *MODEL, "-o", out)  # a folder that is there needs no "/"
    assert (again.code, again.rows[0]["shards"], again.rows[0]["before"]) == (0, 0, 4)
    assert "4 shards, 4 done before, 0 to do" in again.err
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == times


def test_archives_parquet_files_and_lists_are_inputs(
    convit: Convit, images: Path, tmp_path: Path, plain: dict[str, Any]
) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        archive.add(images, "images")
    content = [{"bytes": (images / f"{number}.png").read_bytes(), "path": None} for number in range(9)]
    no_labels = pa.nulls(9, pa.int64())  # which nobody asks for
    pq.write_table(pa.table({"image": content, "label": no_labels}), tmp_path / "1.parquet")
    (tmp_path / "list.txt").write_text("images/3.png\nimages/4.png\n")
    out = tmp_path / "out"
    sources = [tmp_path / name for name in ("0.tar", "1.parquet", "list.txt")]
    done = convit("embed", *sources, *MODEL, "-o", f"{out}/")
    assert (done.code, done.rows[0]["shards"], done.rows[0]["images"]) == (3, 3, 21)
    found = rows(out)
    for number in range(9):
        for name in (f"{tmp_path}/0.tar#images/{number}.png", f"{tmp_path}/1.parquet row {number}"):
            path = str(images / f"{number}.png")
            assert_same({path: found[name]}, {path: plain[path]})
    broken = found[f"{tmp_path}/0.tar#images/broken.jpg"]
    assert broken["embedding"] is None
    assert broken["error"].startswith(f"{tmp_path}/0.tar#images/broken.jpg: ")


def test_a_folder_gives_all_that_it_holds_but_results_of_jobs(
    convit: Convit, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "packed" / "deeper").mkdir(parents=True)
    with tarfile.open(images / "packed" / "deeper" / "0.tar.gz", "w:gz") as archive:
        archive.add(images / "0.png", "0.png")
    content = [{"bytes": (images / "1.png").read_bytes(), "path": None}]
    pq.write_table(pa.table({"image": content}), images / "packed" / "1.parquet")
    (images / "notes.md").write_text("no image")
    monkeypatch.chdir(tmp_path)
    job = ("embed", "images", *MODEL, "-o", "./images/out/")
    first = convit(*job)
    assert (first.code, first.rows[0]["images"], first.rows[0]["failed"]) == (3, 12, 0)
    assert "left out: 1 .md" in first.err
    again = convit(*job, "--update")
    assert (again.rows[0]["before"], again.rows[0]["shards"], again.rows[0]["failed"]) == (3, 0, 0)
    for pattern, count in (("images/*.png", 9), ("images/*/*/{0..0}.tar.gz", 1), ("images/{3..4}.png", 2)):
        assert convit("embed", pattern, *MODEL, "-o", f"{count}/").rows[0]["images"] == count
    own = convit("embed", "images/out", *MODEL, "-o", "images/out/", "--update")
    own.fails("the inputs hold nothing but results of jobs")
    other = convit("classify", "images", *MODEL, "-o", "images/labels/").rows[0]  # beside the results of the first
    assert [other[name] for name in ("images", "failed")] == [12, 0]
    beside = ("embed", tmp_path / "images", "--no-recursive", *MODEL, "-o", "images/out/../")  # among the images
    assert convit(*beside).rows[0]["images"] == 10
    again = convit(*beside, "--update")
    assert [again.rows[0][name] for name in ("before", "shards", "failed")] == [1, 0, 0]
    convit("embed", "images/*.bmp", *MODEL, "-o", "none/").fails("images/*.bmp: no such file; check the pattern")


def test_a_shard_that_cannot_be_read_is_told_and_the_others_are_done(
    convit: Convit, images: Path, tmp_path: Path
) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(images, "images")
    (tmp_path / "0.tar").write_bytes(buffer.getvalue()[:3000])
    out = tmp_path / "out"
    job = ("embed", tmp_path / "0.tar", images, *MODEL, "-o", f"{out}/")
    done = convit(*job)
    assert (done.code, done.rows[0]["failed"], done.rows[0]["shards"]) == (3, 1, 1)
    assert f"done, 1 shard skipped (see {out}/_failed/)" in done.err
    (failed,) = (out / "_failed").iterdir()
    (row,) = pq.read_table(failed).to_pylist()
    assert row["first_file"] == f"{tmp_path}/0.tar"
    assert "cannot be read as a tar archive" in row["error"]
    (tmp_path / "0.tar").write_bytes(buffer.getvalue())  # mended, and therefore changed
    assert "has changed since it was listed; run once with --update" in convit(*job).err
    mended = convit(*job, "--update")
    assert (mended.code, mended.rows[0]["failed"], mended.rows[0]["before"]) == (3, 0, 1)
    assert list((out / "_failed").iterdir()) == []
    assert len(rows(out)) == 20


def test_changed_and_new_images_are_taken_up_when_asked(convit: Convit, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = ("embed", images, *MODEL, "-o", f"{out}/", "--images-per-shard", 3)
    convit(*job, "--shard", "0/4")
    Image.new("RGB", (40, 30), "red").save(images / "1.png")
    Image.new("RGB", (40, 30), "blue").save(images / "new.png")
    (images / "8.png").unlink()
    stale = convit(*job)
    assert (stale.code, stale.rows[0]["failed"], stale.rows[0]["shards"]) == (3, 1, 2)
    assert "8.png" in stale.err
    updated = convit(*job, "--update")
    assert (updated.code, updated.rows[0]["before"], updated.rows[0]["shards"]) == (0, 2, 2)
    convit("embed", images, *MODEL, "-o", tmp_path / "now.parquet")
    now = {row.pop("path"): row for row in pq.read_table(tmp_path / "now.parquet").to_pylist()}
    assert_same(rows(out), now)


def test_an_update_removes_results_before_it_names_their_successors(
    convit: Convit, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    job = ("embed", images, *MODEL, "-o", f"{out}/", "--images-per-shard", 3)
    convit(*job)
    (out / "mine.parquet").write_bytes(b"not of the job")
    (images / "8.png").unlink()
    with monkeypatch.context() as ended:
        ended.setattr("convit.scale.destination.Destination.write", lambda *_: 1 / 0)
        assert convit(*job, "--update").code == 1
    assert len(rows(out)) == 7  # of the shards that stay
    assert convit(*job, "--update").rows[0]["shards"] == 1
    assert len(rows(out)) == 9
    assert (out / "mine.parquet").exists()


def test_results_that_are_not_known_for_what_they_are(convit: Convit, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = ("embed", images, *MODEL, "-o", f"{out}/")
    convit(*job, "--shard", "0/1")
    (first,) = out.glob("0*")
    manifest = (out / "_manifest.parquet").read_bytes()
    (out / "_manifest.parquet").unlink()
    refused = convit(*job, "--normalize")
    refused.fails(f"{out} holds results of a job without its _manifest.parquet; write to another place")
    (out / "_manifest.parquet").write_bytes(manifest)
    first.write_bytes(first.read_bytes()[:-9])
    damaged = convit(*job)
    assert (damaged.code, len(damaged.err.splitlines())) == (2, 2), damaged.err
    assert f"{first} is damaged (" in damaged.err
    first.unlink()
    assert convit(*job).code == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--normalize",), "holds results with normalize False, but it is True now"),
        (("--kind", "tokens"), "holds results with kind pooled, but it is tokens now"),
        (("--model", "convit_mini_patch8_64.tiny_imagenet"), "holds results with model convit_nano"),
        (("--no-exif",), "holds results with apply_exif True, but it is False now"),
        (("--precision", "bf16"), "holds results with precision fp32, but it is bf16 now"),
        (("--precision", "fastest"), "precision is 'fastest', which may differ between processes"),
        (("--precision", "int8"), "int8 would take other ranges in every task"),
        (("--format", "csv"), "takes Parquet files"),
        (("--overwrite",), "takes Parquet files"),
        (("--shard", "3/3"), "the part is '3/3', but must be i/n"),
        (("--address", "auto"), "--address is a Ray cluster; add --engine ray"),
        (("--engine", "ray", "--shard", "0/2"), "--engine ray does all shards; leave out --shard"),
    ],
)
def test_results_of_another_job_are_refused(
    changes: tuple[str, ...], message: str, convit: Convit, images: Path, tmp_path: Path
) -> None:
    job = ("embed", images, *MODEL, "-o", f"{tmp_path}/out/")
    convit(*job)
    before = rows(tmp_path / "out")
    convit(*job, *changes).fails(message)
    assert rows(tmp_path / "out") == before


def test_other_inputs_are_refused(convit: Convit, images: Path, tmp_path: Path) -> None:
    job = (*MODEL, "-o", f"{tmp_path}/out/")
    convit("classify", images, *job)
    other = shutil.copytree(images, tmp_path / "other")
    refused = convit("classify", images, other, *job)
    refused.fails(f"was begun with the inputs {images}; name the same, or bring the manifest up to date")
    assert convit("classify", images, other, *job, "--update").code == 3
    assert len(rows(tmp_path / "out")) == 20


def test_a_part_needs_a_folder(convit: Convit, images: Path, tmp_path: Path) -> None:
    for output in ((), ("-o", tmp_path / "out.parquet")):
        refused = convit("embed", images, *MODEL, "--shard", "0/2", *output)
        refused.fails("need a folder or a URL for --output, such as out/")
    assert os.listdir(tmp_path) == ["images"]  # noqa: PTH208


def test_an_output_that_cannot_be_written_is_one_line(convit: Convit, images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = convit("embed", images, *MODEL, "-o", f"{tmp_path}/file/out/")
    assert refused.code in (1, 2)
    assert str(tmp_path / "file") in refused.err
    assert len([line for line in refused.err.splitlines() if "error" in line]) == 1
    bare = convit("embed", images, *MODEL, "-o", tmp_path / "vectors")
    bare.fails(f"or {tmp_path}/vectors/ for a folder of Parquet files")
    web = convit("embed", images, *MODEL, "-o", "https://127.0.0.1:9/out/")
    web.fails("cannot be written to; name a folder, or s3://")
