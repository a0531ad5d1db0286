import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from convit.data import fingerprint, open_dataset, open_samples
from convit.data.hub import parse_hub
from convit.evaluation.probes import open_sets
from convit.finetuning.images import find_labeled_images
from tests.data.making import encoded, picture, write_parquet


@pytest.fixture
def _hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder that the library opens as it opens the hub's `owner/name`, with two splits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    data = tmp_path / "owner/name/data"
    data.mkdir(parents=True)
    write_parquet(data / "train-00000-of-00001.parquet", range(6))
    write_parquet(data / "test-00000-of-00001.parquet", range(6, 9))
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.mark.usefixtures("_hub")
@pytest.mark.parametrize(
    ("source", "numbers"), [("hub:owner/name", range(6)), ("hub:owner/name/default:test", range(6, 9))]
)
def test_a_split_is_read_with_its_classes(source: str, numbers: range) -> None:
    dataset = open_dataset(source)
    assert dataset.classes == ("even", "odd")
    for index, number in enumerate(numbers):
        image, label = dataset[index]
        assert label == number % 2
        assert np.array_equal(np.asarray(image), np.asarray(picture(number)))
    assert dataset.samples.names[1] == f"{source} row 1"
    (mark,) = fingerprint(source).values()
    assert mark == fingerprint(source)[source]
    assert len(mark) >= 16


@pytest.mark.usefixtures("_hub")
def test_classes_are_matched_with_those_given() -> None:
    given = open_dataset("hub:owner/name", classes=["odd", "even"])
    assert [given.label(index) for index in range(4)] == [1, 0, 1, 0]


@pytest.mark.usefixtures("_hub")
def test_an_absent_split_is_named() -> None:
    with pytest.raises(ValueError, match=r"hub:owner/name:dev cannot be opened: Unknown split"):
        open_dataset("hub:owner/name:dev")
    with pytest.raises(ValueError, match=r"hub:owner/name/large cannot be opened: BuilderConfig 'large' not found"):
        open_dataset("hub:owner/name/large")


@pytest.mark.usefixtures("_hub")
@pytest.mark.parametrize(
    ("source", "tested"),
    [
        ("hub:owner/name", 3),
        ("hub:owner/name/default", 3),
        ("hub:owner/name/default:train", None),
        ("hub:owner/name:test", None),
        ("hub:owner/two", None),
    ],
)
def test_the_test_part_is_kept_for_the_end(source: str, tested: int | None, tmp_path: Path) -> None:
    for name in ("name", "two"):
        (tmp_path / "owner" / name / "data").mkdir(parents=True, exist_ok=True)
        write_parquet(tmp_path / "owner" / name / "data/train-00000-of-00001.parquet", range(12))
    write_parquet(tmp_path / "owner/name/data/test-00000-of-00001.parquet", range(12, 15 if tested else 24))
    found = find_labeled_images(source)
    assert (len(found.samples), found.train, found.warnings) == (12, source, ())
    for test in (found.test, open_sets(source).test):  # fine-tuning and probes agree
        assert (None if test is None else len(test)) == tested
    assert ("test images for the end in hub:owner/name" in found.layout) == bool(tested)


@pytest.mark.usefixtures("_hub")
def test_rows_name_files_of_the_set_alone(tmp_path: Path) -> None:
    (tmp_path / "owner/name/data/x.png").write_bytes(encoded(picture(4)))
    picture(5).save(tmp_path / "mine.png")
    (tmp_path / "owner/name/data/link.png").symlink_to(tmp_path / "mine.png")
    inside = tmp_path / "owner/name/data"
    paths = [inside / "x.png", "/dev/zero", tmp_path / "mine.png", inside / "../../../mine.png", inside / "link.png"]
    rows = [{"image": {"bytes": None, "path": str(path)}, "label": 0} for path in paths]
    features = {"image": {"_type": "Image"}, "label": {"names": ["even"], "_type": "ClassLabel"}}
    table = pa.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    for file in inside.glob("*.parquet"):
        file.unlink()
    pq.write_table(table, inside / "train-0.parquet")
    samples = open_samples("hub:owner/name")
    assert np.array_equal(np.asarray(samples.image(0)), np.asarray(picture(4)))
    for place in range(1, len(paths)):
        with pytest.raises(ValueError, match=f"row {place} names .*, a file outside of the data set's own folder"):
            samples.image(place)
    local = open_samples(inside / "train-0.parquet")  # whose rows name no files at all
    assert [image.content for image in local] == [b""] * len(paths)


@pytest.mark.parametrize(
    ("raised", "kind", "problem"),
    [
        (datasets.exceptions.DatasetNotFoundError("gone\nmore"), FileNotFoundError, r"no hub data set o/n .* \(gone\)"),
        (ConnectionError("no route"), ConnectionError, r"hub:o/n cannot be fetched \(no route\); check the network"),
    ],
)
def test_a_set_that_cannot_be_had_is_named(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, kind: type[Exception], problem: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(kind, match=problem):
        open_dataset("hub:o/n")


def test_the_library_is_asked_for_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ImportError, match=r"'datasets'; install it with: pip install 'convit\[hub\]'"):
        open_dataset("hub:owner/name")


def test_names_are_taken_apart() -> None:
    assert parse_hub("hub:owner/name/config:validation") == ("owner/name", "config", "validation")
    assert parse_hub("hub:owner/name") == ("owner/name", None, "train")
    for wrong in ("hub:name", "hub:a/b/c/d", "hub:a//b", "hub:a/b:c:d"):
        with pytest.raises(ValueError, match="is not a hub data set; write hub:owner/name"):
            parse_hub(wrong)
