"""Label maps: how they are written, what they do to data of every form, and what does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest

from convit.cli import main
from convit.data import open_samples
from convit.data.label_maps import read_label_map
from convit.evaluation import Evaluator, match_classes
from convit.images.lists import read_list, read_table
from convit.weights.labels import class_names, class_wnids
from tests.evaluation.storing import write_file, write_folders, write_parquet, write_shard

IMAGENET = class_names("imagenet1k")
MODEL = ("cat", "dog", "Egyptian mau")
# the data's classes mean: cat, dog, Egyptian mau, and dog again
BY_NAME = {"Felis": "cat", "canis": "dog", "mau": "Egyptian_mau", "Canis lupus": "DOG"}
FORMS: dict[str, str] = {
    "x.json": json.dumps(BY_NAME),
    "x.csv": "data,model\n" + "".join(f'"{name}",{target}\n' for name, target in BY_NAME.items()),
    "x.tsv": "".join(f"{name}\t{target}\n" for name, target in BY_NAME.items()) + "\n",
    "x.txt": "".join(f"{name}\t{target}\n" for name, target in BY_NAME.items()),
    "list.json": json.dumps(["dog", "dog", "cat", "Egyptian mau"]),
    "numbers.json": json.dumps({"felis": 0, "canis": 1, "mau": 2, "canis lupus": 1}),
    "more.json": json.dumps({**BY_NAME, "lion": "no class of the model"}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures 0 and 1 of felis, 2 of canis, 3 of mau, 4 of canis lupus."""
    return write_folders(tmp_path / "data", {"felis": [0, 1], "canis": [2], "mau": [3], "canis_lupus": [4]})


def _write(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


def _meant(data: Any, path: Path, names: tuple[str, ...] | None = MODEL, count: int = 3) -> dict[str, int]:
    """The model's class of each image."""
    images = open_samples(data, label_map=path)
    matched = match_classes(images, names, count)
    return {image.name: matched[image.label] for image in images}


@pytest.mark.parametrize("name", FORMS)
def test_every_way_of_writing(folder: Path, tmp_path: Path, name: str) -> None:
    assert _meant(folder, _write(tmp_path, name, FORMS[name])) == {
        "canis/02.png": 1,
        "canis_lupus/04.png": 1,
        "felis/00.png": 0,
        "felis/01.png": 0,
        "mau/03.png": 2,
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", 'image,label\n"two\nlines.png",cat\n"a, b.png", dog\n'),
        ("x.csv", "image;label\ntwo.png;cat\nb.png;dog, or wolf\n"),
        ("x.csv", "image,label\r\ntwo\u2028lines.png,cat\r\n\r\nform\x0cfeed.png,dog\r\n"),
        ("x.tsv", "image\tlabel\ntwo.png\tcat\nb;c, d.png\tdog\n"),
    ],
)
def test_a_map_and_a_list_of_images_read_the_same_table(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    listed = read_table(text, Path(name).suffix)
    for file in [cells[0] for _, cells in listed[1:]]:
        write_file(tmp_path / file, 0)
    images = read_list(tmp_path / name)
    assert read_label_map(tmp_path / name).by_name == {
        "image": "label",
        **dict(zip(images.names, images.labels or (), strict=True)),
    }


def test_a_line_names_its_own_class_before_others(tmp_path: Path) -> None:
    write_folders(tmp_path / "data", {"A": [0], "a": [1]})
    with pytest.raises(ValueError, match="does not say what 'a' of the data mean"):
        open_samples(tmp_path / "data", label_map=_write(tmp_path, "x.json", '{"A": "cat"}'))
    both = _write(tmp_path, "y.json", '{"A": "Cat", "a": "cat"}')
    assert _meant(tmp_path / "data", both, ("dog", "cat"), 2) == {"A/00.png": 1, "a/01.png": 1}


def test_two_columns_of_text_without_tabs(tmp_path: Path) -> None:
    write_folders(tmp_path / "data", {"n1": [0], "n2": [1]})
    path = _write(tmp_path, "x.txt", "n1 Egyptian mau\nn2\tcat\n".replace("\t", "   "))
    assert _meant(tmp_path / "data", path) == {"n1/00.png": 2, "n2/01.png": 0}


def test_wordnet_ids_and_numbers_of_the_model(folder: Path, tmp_path: Path) -> None:
    wnids = [class_wnids("imagenet1k")[number] for number in (281, 235, 282)]
    targets = dict(zip(("felis", "canis", "mau"), wnids, strict=True)) | {"canis lupus": wnids[1]}
    found = _meant(folder, _write(tmp_path, "x.json", json.dumps(targets)), IMAGENET, 1000)
    assert set(found.values()) == {281, 235, 282}
    numbers = {"felis": 281, "canis": "235", "mau": 282, "canis lupus": 235}
    found_by_number = _meant(folder, _write(tmp_path, "y.json", json.dumps(numbers)), None, 1000)
    assert found_by_number == found


def test_data_that_have_no_names_are_meant_by_number(tmp_path: Path) -> None:
    shards = write_shard(tmp_path / "x.tar", [(0, 0), (1, 7), (2, 7)])
    assert _meant(shards, _write(tmp_path, "x.json", '{"0": "dog", "7": "cat"}')) == {"s00": 1, "s01": 0, "s02": 0}
    table = write_parquet(tmp_path / "x.parquet", [(0, 1), (1, 0)])
    assert list(_meant(table, _write(tmp_path, "y.json", '["dog", "cat"]')).values()) == [0, 1]


def test_classes_that_come_with_wordnet_ids_are_meant_by_either(tmp_path: Path) -> None:
    shards = write_shard(tmp_path / "x.tar", [(0, 0), (1, 1)])
    rows = [{"index": 0, "name": "felis", "wnid": "n1"}, {"index": 1, "name": "canis", "wnid": "n2"}]
    (tmp_path / "classes.json").write_text(json.dumps(rows))
    assert _meant(shards, _write(tmp_path, "x.json", '{"n1": "cat", "canis": "dog"}')) == {"s00": 0, "s01": 1}


def test_what_stays_of_the_data(folder: Path, tmp_path: Path) -> None:
    plain = open_samples(folder)
    path = _write(tmp_path, "x.json", FORMS["x.json"])
    images = open_samples(folder, label_map=path)
    assert (images.kind, len(images), images.restricted) == (plain.kind, 5, False)
    assert [image.content for image in images] == [image.content for image in plain]
    assert [image.name for image in images.take([0, 4])] == ["canis/02.png", "mau/03.png"]
    assert len(set(match_classes(images, MODEL, 3))) == 3  # two classes of the data became one
    before, after = plain.identity(), images.identity()
    assert after["label_map"] == {"name": "x.json", "sha256": read_label_map(path).sha256}
    assert after["sha256"] != before["sha256"] == after.pop("images_sha256")
    other = open_samples(folder, label_map=_write(tmp_path, "y.json", FORMS["list.json"]))
    assert other.identity()["sha256"] != after["sha256"]
    assert {**after, "sha256": 0, "label_map": 0} == {**before, "sha256": 0, "label_map": 0}


def test_a_map_of_several_right_labels_and_of_competing_classes(tmp_path: Path) -> None:
    write_file(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG", 0)
    (tmp_path / "real.json").write_text("[[281, 282, 151]]")
    targets = {IMAGENET[281]: "cat", IMAGENET[282]: "cat", IMAGENET[151]: "dog"}
    images = open_samples(f"imagenet-real:{tmp_path}", label_map=_write(tmp_path, "x.json", json.dumps(targets)))
    (image,) = images
    assert [match_classes(images, MODEL, 3)[label] for label in image.accepted] == [0, 1]
    write_folders(tmp_path / "a", {"n01498041": [0]})
    with pytest.raises(ValueError, match=r"x\.json does not say what .* and 196 more of the data mean"):
        open_samples(f"imagenet-a:{tmp_path / 'a'}", label_map=tmp_path / "x.json")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.json", '{"felis": "cat", "canis": "dog"}', "does not say what 'canis_lupus', 'mau' of the data mean"),
        ("x.json", '["cat", "dog"]', r"lists 2 classes, but the data have 4"),
        ("x.json", '["cat"', r"x\.json is not a label map \(Expecting"),
        ("x.json", "[" * 100_000, r"is not a label map \(maximum recursion depth"),
        ("x.json", "7", r"is not a label map \(it is neither an object nor a list\)"),
        ("x.json", "{}", r"is not a label map \(it is empty\)"),
        ("x.json", '{"a": null}', r"is not a label map \(it holds None where a name or a whole number must stand\)"),
        ("x.json", '{"a": true}', r"it holds True"),
        ("x.json", '[{"a": "b"}]', r"it holds a list or an object where a name"),
        ("x.json", '{"Felis": "cat", "felis": "dog"}', "says both 'cat' and 'dog' of 'felis'"),
        ("x.csv", "felis,cat,3\n", r"is not a label map \(line 1 does not have two columns\)"),
        ("x.csv", "felis\n", r"line 1 does not have two columns"),
        ("x.csv", 'felis,"cat', r"is not a label map \(unexpected end of data\)"),
        ("x.csv", "", r"it is empty"),
        ("x.tsv", "felis\tcat\n\tdog\n", r"line 2 does not have two columns"),
        ("x.yaml", "felis: cat", r"its name ends in '\.yaml'"),
        ("x", "felis cat", r"its name has no ending"),
    ],
)
def test_maps_that_are_written_otherwise(folder: Path, tmp_path: Path, name: str, content: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        open_samples(folder, label_map=_write(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no label map .*nowhere\.json"):
        open_samples(folder, label_map=tmp_path / "nowhere.json")
    (tmp_path / "x.csv").write_bytes(b"felis,\xff\n")
    with pytest.raises(ValueError, match="is not a label map"):
        open_samples(folder, label_map=tmp_path / "x.csv")


def test_targets_that_the_model_does_not_have(folder: Path, tmp_path: Path) -> None:
    path = _write(tmp_path, "x.json", json.dumps({**BY_NAME, "mau": "tabby", "canis": "wolf"}))
    with pytest.raises(
        ValueError, match=r"in the label map x\.json, 'wolf', 'tabby' are none of the model's 3 classes"
    ):
        _meant(folder, path)
    # their number alone must not match them with a model that does not know its classes
    with pytest.raises(ValueError, match="write all of its targets as names, as WordNet ids or as numbers"):
        _meant(folder, _write(tmp_path, "y.json", json.dumps(BY_NAME)), None)


def test_the_figures_follow_the_map(
    tmp_path: Path, folder: Path, weights: Path, pictures: list[tuple[str, int, bytes]]
) -> None:
    """The photographs under other names, two classes in one: as if they were sorted so."""
    other, merged = tmp_path / "other", tmp_path / "merged"
    for name, number, content in pictures:
        for root, inside in ((other, f"klass_{name}"), (merged, "rocket" if name == "page" else name)):
            (root / inside).mkdir(parents=True, exist_ok=True)
            (root / inside / f"{name}{number}.jpg").write_bytes(content)
    targets = {f"klass {name}": "rocket" if name == "page" else name for name, _, _ in pictures}
    path = _write(tmp_path, "x.json", json.dumps(targets))
    evaluator = Evaluator(weights=weights, device="cpu")
    mapped, plain = evaluator.evaluate(open_samples(other, label_map=path)), evaluator.evaluate(open_samples(merged))
    assert (mapped.correct_top1, mapped.correct_top5, mapped.count) == (plain.correct_top1, plain.correct_top5, 18)
    assert mapped.loss == pytest.approx(plain.loss)
    assert mapped.classes_in_data == plain.classes_in_data == 5


def test_the_command_refuses_a_map_that_does_not_fit(
    folder: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path, "x.json", '{"felis": "cat"}')
    _write(tmp_path, "y.json", json.dumps(BY_NAME))
    for name in ("x.json", "y.json", "nowhere.json"):
        _refused(folder, weights, tmp_path / name, capsys)


def _refused(folder: Path, weights: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder), "--weights", str(weights), "--classes", str(path)]) == 2
    written = capsys.readouterr()
    assert (written.out, written.err.count("\n")) == ("", 1)
    assert path.name in written.err


def test_targets_that_differ_in_case_are_the_classes_that_they_name(tmp_path: Path) -> None:
    write_folders(tmp_path / "data", {"x": [0], "y": [1], "z": [2]})
    path = _write(tmp_path, "x.json", '{"x": "A", "y": "a", "z": "A"}')
    assert _meant(tmp_path / "data", path, ("a", "A"), 2) == {"x/00.png": 1, "y/01.png": 0, "z/02.png": 1}
