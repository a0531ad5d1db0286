"""Which images are trained on, and which tested."""

from collections.abc import Callable
from pathlib import Path

import pytest

from convit.data import open_samples
from convit.data.splits import SplitError, find_layout
from convit.evaluation.probes import open_sets
from tests.data.test_parts import LAYOUTS, Write

WriteShard = Callable[[Path, list[tuple[str, int, bytes]]], None]


def test_a_folder_with_train_and_val_needs_no_option(splits: Path) -> None:
    sets = open_sets(splits)
    assert sets.test is not None
    assert (len(sets.train), len(sets.test)) == (12, 6)
    assert sets.test.identity()["name"] == "val"


def test_test_stands_in_for_val(splits: Path) -> None:
    (splits / "val").rename(splits / "test")
    sets = open_sets(splits)
    assert sets.test is not None
    assert sets.test.identity()["name"] == "test"


def test_shards_are_split_by_their_names(
    tmp_path: Path, pictures: list[tuple[str, int, bytes]], write_shard: WriteShard
) -> None:
    samples = [(f"{name}{number}", number, content) for name, number, content in pictures]
    write_shard(tmp_path / "train-000000.tar", samples[:9])
    write_shard(tmp_path / "train-000001.tar", samples[9:15])
    write_shard(tmp_path / "test-000000.tar", samples[15:])
    sets = open_sets(tmp_path)
    assert sets.test is not None
    assert (len(sets.train), len(sets.test)) == (15, 3)


@pytest.mark.parametrize(("train", "test"), LAYOUTS)
def test_parts_are_those_that_fine_tuning_finds(
    tmp_path: Path, train: tuple[str, Write], test: tuple[str, Write]
) -> None:
    for name, write in (train, test):
        write(tmp_path / name)
    layout, sets = find_layout(tmp_path), open_sets(tmp_path)
    assert layout.test is not None
    assert sets.test is not None
    assert sets.train.identity() == open_samples(layout.train).identity()
    assert sets.test.identity() == open_samples(layout.test).identity()


def test_one_set_is_one_set(splits: Path) -> None:
    assert open_sets(splits / "train").test is None
    # two classes that are called like splits
    (splits / "train" / "cat").rename(splits / "train" / "train")
    (splits / "train" / "page").rename(splits / "train" / "test")
    sets = open_sets(splits / "train")
    assert (len(sets.train), sets.test) == (12, None)


def test_splits_and_other_data_by_name(splits: Path) -> None:
    sets = open_sets(splits, split="val", test_split="train")
    assert sets.test is not None
    assert (len(sets.train), len(sets.test)) == (6, 12)
    sets = open_sets(splits, test_split="val")
    assert sets.test is not None
    assert (len(sets.train), len(sets.test)) == (12, 6)
    sets = open_sets(splits / "train", test=splits)
    assert sets.test is not None
    assert (len(sets.train), len(sets.test)) == (12, 6)
    sets = open_sets(splits, test=splits / "val")
    assert sets.test is not None
    assert (len(sets.train), len(sets.test)) == (12, 6)
    assert open_sets(splits, split="val").test is None


def test_a_limit_takes_evenly_spaced_images(splits: Path) -> None:
    sets = open_sets(splits, limit=6)
    assert sets.test is not None
    assert (len(sets.train), len(sets.test)) == (6, 6)
    assert sets.train.identity()["evenly_spaced"] == 6
    assert len({image.label for image in sets.train}) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "trian"}, "has no split 'trian'; it has train, val"),
        ({"test_split": "dev"}, "has no split 'dev'"),
        ({"split": "val", "test_split": "validation"}, "are both the split 'validation'"),
        ({"test_split": "train"}, "are both the split 'train'"),
        ({"limit": 0}, "the limit is 0"),
    ],
)
def test_splits_that_there_are_not(splits: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_sets(splits, **options)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_sets(tmp_path / "absent")


def test_imagenets_relatives_have_splits_below_their_folder(
    tmp_path: Path, pictures: list[tuple[str, int, bytes]]
) -> None:
    for split, numbers in (("train", (0, 1)), ("val", (2,))):
        for wnid in ("n01440764", "n01443537"):
            (tmp_path / split / wnid).mkdir(parents=True)
            for number in numbers:
                (tmp_path / split / wnid / f"{number}.JPEG").write_bytes(pictures[number][2])
    sets = open_sets(f"imagenet:{tmp_path}")
    assert sets.test is not None
    assert (len(sets.train), len(sets.test)) == (4, 2)


def test_splits_without_one_to_train_on_are_no_classes(
    tmp_path: Path, splits: Path, pictures: list[tuple[str, int, bytes]], write_shard: WriteShard
) -> None:
    (splits / "train").rename(splits / "test")
    with pytest.raises(ValueError, match="has no split train, but val and test; name one to train on with --split"):
        open_sets(splits)
    sets = open_sets(splits, split="test")
    assert sets.test is not None
    assert (len(sets.train), len(sets.test)) == (12, 6)
    samples = [(f"{name}{number}", number, content) for name, number, content in pictures]
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards" / "val-000000.tar", samples[:9])
    assert open_sets(tmp_path / "shards").test is None
    write_shard(tmp_path / "shards" / "test-000000.tar", samples[9:])
    with pytest.raises(ValueError, match="has no split train"):
        open_sets(tmp_path / "shards")


def test_labels_beyond_the_list_of_classes(
    tmp_path: Path, pictures: list[tuple[str, int, bytes]], write_shard: WriteShard
) -> None:
    samples = [(f"{name}{number}", number, content) for name, number, content in pictures]
    write_shard(tmp_path / "train-000000.tar", samples)
    (tmp_path / "classes.json").write_text('["ant", "bee"]')
    with pytest.raises(ValueError, match=r"label 2 of sample 'cat2' in .*classes\.json is .*there are 2 classes"):
        open_sets(tmp_path)


def test_images_of_several_right_classes_are_refused(splits: Path) -> None:
    with pytest.raises(ValueError, match=r"several right labels for an image, .* name the images as imagenet:real"):
        open_sets(splits, test="imagenet-real:real")


def test_images_scored_among_some_classes_need_training_images_of_these(
    tmp_path: Path, pictures: list[tuple[str, int, bytes]]
) -> None:
    wnids = ("n01498041", "n01531178", "n01440764")  # the last is not among ImageNet-A's
    for data, shown in (("all", wnids), ("some", wnids[:2])):
        for wnid in shown:
            (tmp_path / data / wnid).mkdir(parents=True)
            (tmp_path / data / wnid / "0.JPEG").write_bytes(pictures[0][2])
    with pytest.raises(ValueError, match="is scored among 200 classes, but the 3 of the training images are others"):
        open_sets(tmp_path / "all", test=f"imagenet-a:{tmp_path / 'some'}")
    for train in (tmp_path / "some", f"imagenet:{tmp_path / 'some'}"):
        assert open_sets(train, test=f"imagenet-a:{tmp_path / 'some'}").test is not None


def test_a_hubs_other_errors_are_not_taken_for_a_missing_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(source: str) -> None:
        asked.append(source)
        answer = answers[min(len(asked), len(answers)) - 1]
        raise (SplitError if answer.startswith("Unknown split") else ValueError)(answer)

    monkeypatch.setattr("convit.data.hub.HubSamples", refuse)
    answers = ["the split of rows into files is broken"]
    with pytest.raises(ValueError, match="rows into files is broken"):
        open_sets("hub:owner/name")
    assert asked == ["hub:owner/name:train"]
    asked.clear()
    answers = ["Unknown split"]
    with pytest.raises(ValueError, match="Unknown split"):
        open_sets("hub:owner/name")
    assert asked == ["hub:owner/name:train", "hub:owner/name"]
