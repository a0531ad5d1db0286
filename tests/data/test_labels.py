"""Labels as they come: lists of images, and whole numbers with gaps."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from convit.data import fingerprint, open_samples
from convit.search import list_images
from tests.data.making import encoded, picture, write_folder, write_members, write_samples


def _parquet(path: Path, labels: list[int]) -> Path:
    rows = [{"image": encoded(picture(number)), "label": label} for number, label in enumerate(labels)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def _csv(path: Path, labels: list[str]) -> Path:
    names = [f"{number}.png" for number in range(len(labels))]
    for number, name in enumerate(names):
        picture(number).save(path.with_name(name))
    lines = [f"{name},{label}" for name, label in zip(names, labels, strict=True)]
    path.write_text("\n".join(["image,label", *lines]))
    return path


def _shard(path: Path, labels: list[int]) -> Path:
    return write_samples(path, ((f"{n}.png", encoded(picture(n)), label) for n, label in enumerate(labels)))


@pytest.mark.parametrize("labels", [[5, 70, 900, 5], [20240001, 20240017, 20240009, 20240001], [3, 1 << 40, 9, 3]])
def test_numbers_with_gaps_are_classes_called_so(tmp_path: Path, labels: list[int]) -> None:
    ids = sorted(set(labels))
    for source in (
        _parquet(tmp_path / "x.parquet", labels),
        _shard(tmp_path / "x.tar", labels),
        _csv(tmp_path / "x.csv", list(map(str, labels))),
    ):
        samples = open_samples(source)
        assert samples.class_names == tuple(map(str, ids))
        assert [ids[label] for label in samples.labels] == labels


def test_numbers_without_gaps_stay_the_model_s_own(tmp_path: Path) -> None:
    for source in (_parquet(tmp_path / "x.parquet", [1, 0, 2]), _csv(tmp_path / "x.csv", ["1", "0", "2"])):
        samples = open_samples(source)
        assert (samples.labels, samples.class_names) == ([1, 0, 2], None)
        assert open_samples(source, classes=("a", "b", "c", "d")).labels == [1, 0, 2]


def test_a_part_with_gaps_counts_as_the_whole(tmp_path: Path) -> None:
    part, whole = _parquet(tmp_path / "part.parquet", [0, 3, 1]), _parquet(tmp_path / "whole.parquet", [0, 1, 2, 3])
    assert open_samples(part, classes=open_samples(whole).class_titles).labels == [0, 3, 1]
    assert open_samples(part, classes=("a", "b", "c", "d")).labels == [0, 3, 1]
    gaps = open_samples(_parquet(tmp_path / "gaps.parquet", [1, 5, 0])).class_titles
    assert open_samples(_parquet(tmp_path / "few.parquet", [1, 0]), classes=gaps).labels == [1, 0]
    with pytest.raises(ValueError, match=r"the class '3' of .* is none of the 3 known classes"):
        open_samples(part, classes=gaps)
    with pytest.raises(ValueError, match=r"the class '2' of .* is none of the 3 known classes"):
        open_samples(_parquet(tmp_path / "other.parquet", [2, 1, 0]), classes=gaps)


def test_a_list_is_a_data_set(tmp_path: Path) -> None:
    path = _csv(tmp_path / "x.csv", ["dog", "cat", "dog"])
    samples = open_samples(path)
    assert (samples.class_names, samples.labels) == (("cat", "dog"), [1, 0, 1])
    assert (samples.names[0], samples.where(0), samples.image(0).size) == ("0.png", str(tmp_path / "0.png"), (8, 8))
    identity = samples.identity()
    assert (identity["kind"], identity["labels"]["name"]) == ("list", "x.csv")
    before = fingerprint("x.csv", tmp_path)
    path.write_text(path.read_text().replace("cat", "cow"))
    assert fingerprint("x.csv", tmp_path) != before
    assert open_samples(path).identity()["sha256"] != identity["sha256"]


@pytest.mark.parametrize(
    "titles",
    [("target", "class"), ("category", "target"), ("Species", "Fine_Label"), ("id", "Class Name"), ("cls", "x")],
)
def test_a_table_and_a_list_have_their_labels_in_the_same_column(tmp_path: Path, titles: tuple[str, str]) -> None:
    cells = [("a", "b"), ("c", "b"), ("a", "d")]
    lines = [f"{place}.png,{','.join(row)}" for place, row in enumerate(cells)]
    (tmp_path / "x.csv").write_text("\n".join([",".join(["image", *titles]), *lines]))
    for place in range(len(cells)):
        picture(place).save(tmp_path / f"{place}.png")
    rows = [
        {"image": encoded(picture(place)), **dict(zip(titles, row, strict=True))} for place, row in enumerate(cells)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    table, listed = open_samples(tmp_path / "x.parquet"), open_samples(tmp_path / "x.csv")
    assert (table.labels, table.class_names) == (listed.labels, listed.class_names)


def test_zeros_in_front_make_names(tmp_path: Path) -> None:
    assert open_samples(_csv(tmp_path / "x.csv", ["01", "02"])).class_names == ("01", "02")


def test_a_list_without_labels_is_no_labeled_data(tmp_path: Path) -> None:
    write_folder(tmp_path, ("a",))
    (tmp_path / "x.txt").write_text("a/0.png\n")
    with pytest.raises(ValueError, match=r"x\.txt names images without their labels; give a \.csv"):
        open_samples(tmp_path / "x.txt")
    assert open_samples(tmp_path).class_names == ("a",)  # a list in the folder is not the data


def test_classes_whose_names_are_no_text_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "x", ("a", os.fsdecode(b"caf\xe9")))
    with pytest.raises(ValueError, match=r"the class 'caf\\udce9' of the sub-folders .* not valid UTF-8; rename it"):
        open_samples(tmp_path / "x")
    path = _csv(tmp_path / "x.csv", ["a", "b"])
    path.write_bytes(path.read_bytes().replace(b",b", b",\xe9"))
    with pytest.raises(ValueError, match="not valid UTF-8; rename it"):
        open_samples(path)


def test_images_are_listed_without_labels(tmp_path: Path) -> None:
    members = [("a.png", encoded(picture(0))), ("b.png", encoded(picture(1))), ("b.cls", b"7")]
    write_members(tmp_path / "train-0.tar", members)
    pq.write_table(pa.table({"image": [encoded(picture(2)), encoded(picture(3))]}), tmp_path / "test.parquet")
    found = list_images(tmp_path / "train-0.tar")
    assert [(image.name, image.label, image.split, image.read()) for image in found] == [
        ("a", None, "train", encoded(picture(0))),
        ("b", "7", "train", encoded(picture(1))),
    ]
    found = list_images(tmp_path / "test.parquet")
    assert [(image.label, image.read()) for image in found] == [(None, encoded(picture(place))) for place in (2, 3)]
    for name in ("train-0.tar", "test.parquet"):
        with pytest.raises(ValueError, match=r"needs an image .* and a \.cls|has no label column"):
            open_samples(tmp_path / name)


def test_what_a_folder_holds_besides_images_is_told_in_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_folder(tmp_path / "data", ["cat", "dog"])
    for name in ("clip.mp4", "photo.HEIC", "other.mp4", ".DS_Store", "Thumbs.db"):
        (folder / "dog" / name).touch()
    with caplog.at_level("INFO", "convit"):
        open_samples(folder)
    assert caplog.messages == [f"{folder}: left out: 2 .mp4, 1 .heic (pip install pillow-heif)"]
