import json
import pickle
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from convit.data import ImageDataset, open_dataset, open_samples
from convit.data.locate import kind_of
from convit.data.parquet import ParquetSamples
from convit.images import ImageError, open_image
from tests.data.making import encoded, picture, write_parquet


def _rows(count: int) -> list[bytes]:
    return [encoded(picture(number)) for number in range(count)]


def _write(path: Path, columns: dict[str, object], notes: dict[str, object] | None = None) -> Path:
    table = pa.table(columns)
    if notes is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": notes}})})
    pq.write_table(table, path)
    return path


def _holds(dataset: ImageDataset, numbers: range) -> bool:
    return len(dataset) == len(numbers) and all(
        np.array_equal(np.asarray(dataset[index][0]), np.asarray(picture(number)))
        for index, number in enumerate(numbers)
    )


def test_the_hub_s_layout_is_read_from_files_patterns_and_folders(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", range(5))
    write_parquet(tmp_path / "train-1.parquet", range(5, 8))
    for source in (tmp_path, "train-{0..1}.parquet", "train-*.parquet", ["train-0.parquet", "train-1.parquet"]):
        assert kind_of(source, tmp_path).name == "parquet"
        dataset = open_dataset(source, root=tmp_path)
        assert dataset.classes == ("even", "odd")
        assert _holds(dataset, range(8))
        assert [dataset.label(index) for index in range(8)] == [0, 1] * 4
    assert [dataset.samples.names[index].rpartition("/")[2] for index in (4, 5)] == [
        "train-0.parquet row 4",
        "train-1.parquet row 0",
    ]


def test_large_sets_keep_some_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convit.data.parquet.IN_MEMORY", 0)
    monkeypatch.setattr("convit.data.parquet.KEPT_GROUPS", 2)
    samples = ParquetSamples([write_parquet(tmp_path / "x.parquet", range(9))])
    for _ in range(2):
        assert _holds(ImageDataset(samples), range(9))
    assert len(samples._kept) == 2


def test_worker_processes_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convit.data.parquet.IN_MEMORY", 0)
    path = write_parquet(tmp_path / "x.parquet", range(6))
    loader = DataLoader(open_dataset(path, np.array), batch_size=3, num_workers=2)
    images = np.concatenate([batch.numpy() for batch, _ in loader])
    assert np.array_equal(images, np.stack([np.asarray(picture(number)) for number in range(6)]))


def test_names_as_labels_are_the_classes(tmp_path: Path) -> None:
    path = _write(tmp_path / "x.parquet", {"img": _rows(3), "id": [7, 8, 9], "class": ["dog", "cat", "dog"]})
    dataset = open_dataset(path)
    assert dataset.classes == ("cat", "dog")
    assert [dataset.label(index) for index in range(3)] == [1, 0, 1]
    assert _holds(dataset, range(3))
    given = open_dataset(path, classes=["dog", "cow", "cat"])
    assert [given.label(index) for index in range(3)] == [0, 2, 0]
    with pytest.raises(ValueError, match=r"class 'dog' of .*x\.parquet is none of the 2 known classes"):
        open_dataset(path, classes=["cat", "cow"])


def test_dictionaries_of_several_files_are_joined(tmp_path: Path) -> None:
    for name, labels in (("a", ["dog", "cat"]), ("b", ["emu", "cat"])):
        _write(tmp_path / f"{name}.parquet", {"image": _rows(2), "label": pa.array(labels).dictionary_encode()})
    dataset = open_dataset(tmp_path)
    assert [dataset.classes[dataset.label(index)] for index in range(4)] == ["dog", "cat", "emu", "cat"]


def test_class_names_of_the_notes_are_matched_with_those_given(tmp_path: Path) -> None:
    given = open_dataset(write_parquet(tmp_path / "x.parquet", range(4)), classes=["odd", "none", "even"])
    assert given.classes == ("odd", "none", "even")
    assert [given.label(index) for index in range(4)] == [2, 0, 2, 0]


def test_numbers_without_names_count_in_the_classes_given(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", range(4), ["a", "b", "c"], noted=False)
    assert open_dataset(path).classes is None
    assert open_dataset(path, classes=["a", "b", "c"]).label(2) == 2
    with pytest.raises(
        ValueError, match=r"label 2 of sample 'x.parquet row 2' in .*x\.parquet.*but there are 2 classes"
    ):
        open_dataset(path, classes=["a", "b"])


def test_of_several_columns_the_marked_or_the_likely_one_is_taken(tmp_path: Path) -> None:
    fine, coarse = {"_type": "ClassLabel", "names": ["a", "b"]}, {"_type": "ClassLabel", "names": ["x"]}
    columns = {"img": _rows(2), "coarse_label": [0, 0], "fine_label": [1, 0], "label": [5, 5]}
    dataset = open_dataset(
        _write(tmp_path / "x.parquet", columns, {"coarse_label": coarse, "fine_label": fine, "label": {}})
    )
    assert (dataset.classes, dataset.label(0)) == (("a", "b"), 1)
    species = {"_type": "ClassLabel", "names": ["a", "b", "c"]}
    marked = _write(tmp_path / "y.parquet", {"scan": _rows(2), "species": [2, 0]}, {"species": species})
    assert open_dataset(marked).label(0) == 2


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (
            {"image": [b""], "caption": ["a cat"]},
            r"no label column among image \(binary\), caption \(string\); name one",
        ),
        ({"url": ["x"], "label": [0]}, r"no image column among url \(string\), label \(int64\); name one 'image'"),
        ({"image": [b"", b""], "label": [0, None]}, "no label in row 1"),
        ({"image": [b"", b""], "label": [0, -1]}, "row 1'.*has the label -1, but labels count from 0"),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, "has no row"),
    ],
)
def test_tables_that_hold_something_else_are_refused(tmp_path: Path, columns: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        open_dataset(_write(tmp_path / "x.parquet", columns))


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no table, but long enough")
    with pytest.raises(ValueError, match=r"text\.parquet cannot be read as Parquet"):
        open_dataset(tmp_path / "text.parquet")
    with pytest.raises(FileNotFoundError, match=r"no Parquet file at .*away\.parquet"):
        open_dataset(tmp_path / "away.parquet")
    write_parquet(tmp_path / "a.parquet", range(2))
    _write(tmp_path / "b.parquet", {"picture": _rows(1), "label": [0]})
    with pytest.raises(ValueError, match=r"b\.parquet lacks the columns 'image' and 'label' of .*a\.parquet"):
        open_dataset(["a.parquet", "b.parquet"], root=tmp_path)
    empty = _write(tmp_path / "c.parquet", {"image": [{"bytes": None, "path": "a.png"}, None], "label": [0, 1]})
    for row, said in enumerate((r"names the file a\.png and does not hold it; write images into", "is empty")):
        with pytest.raises(ValueError, match=rf"c\.parquet row {row}: {said}"):
            open_dataset(empty)[row]
        content = pickle.loads(pickle.dumps(open_samples(empty).labeled(row).content))
        with pytest.raises(ImageError, match=said):
            open_image(content)


def test_damaged_text_is_refused_as_damage(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "x.parquet", range(4)).read_bytes()
    named = _write(tmp_path / "y.parquet", {"image": _rows(2), "label": ["owl", "cat"]}).read_bytes()
    for content, text in ((whole, b"label"), (named, b"owl"), (named, b"label")):
        damaged = tmp_path / "damaged.parquet"
        damaged.write_bytes(content.replace(text, b"\xee" + text[1:]))
        with pytest.raises(
            ValueError, match=r"damaged\.parquet (cannot be read as Parquet|has no label column)"
        ) as caught:
            open_dataset(damaged)
        assert not isinstance(caught.value, UnicodeDecodeError)


@pytest.mark.parametrize("name", [b"bytes", b"image", b"label"])
def test_names_of_columns_that_are_not_text(tmp_path: Path, name: bytes) -> None:
    whole = write_parquet(tmp_path / "whole.parquet", range(4), noted=False).read_bytes()
    path, places = tmp_path / "damaged.parquet", [match.start() for match in re.finditer(name, whole)]
    refused = 0
    for place in places:
        path.write_bytes(whole[:place] + b"\xe1" * len(name) + whole[place + len(name) :])
        with suppress(ValueError):
            ParquetSamples([path])
            continue
        with pytest.raises(ValueError, match=r"damaged\.parquet") as caught:
            ParquetSamples([path])
        assert type(caught.value) is ValueError
        refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    "notes",
    [
        b"\xff",
        b"[" * 100_000,
        b'{"info": 5}',
        b'{"info": {"features": ["label"]}}',
        b'{"info": {"features": {"label": "names"}}}',
        b'{"info": {"features": {"label": {"names": "ab"}}}}',
        b'{"info": {"features": {"label": {"names": 2}}}}',
        b'{"info": {"features": {"label": {"names": [1, 2]}}}}',
        b'{"info": {"features": {"label": {"_type": ["ClassLabel"], "names": null}}}}',
    ],
)
def test_notes_that_are_not_the_hubs_are_passed_over(tmp_path: Path, notes: bytes) -> None:
    table = pa.table({"image": _rows(2), "label": [0, 1]}).replace_schema_metadata({"huggingface": notes})
    pq.write_table(table, tmp_path / "x.parquet")
    samples = ParquetSamples([tmp_path / "x.parquet"])
    assert (list(samples.labels), samples.classes) == ([0, 1], None)


_READ_DAMAGED = """
import sys
from pathlib import Path
from convit.data import open_samples

whole, damaged = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
begin = len(whole) - int.from_bytes(whole[-8:-4], "little") - 8
for place in range(begin, begin + 200):
    for flipped in (0x01, 0x04, 0x80):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ flipped]) + whole[place + 1 :])
        try:
            list(open_samples(damaged))
        except ValueError as error:
            if isinstance(error, UnicodeDecodeError) or "\\n" in str(error):
                raise SystemExit(f"{place}: {error!r}")
"""


def test_a_damaged_description_is_refused_and_never_ends_the_process(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "whole.parquet", range(4), noted=False)
    command = [sys.executable, "-c", _READ_DAMAGED, str(whole), str(tmp_path / "damaged.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
