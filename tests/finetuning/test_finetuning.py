"""What fine-tuning decides by looking at pictures, and what it makes of a model's answers."""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from convit.data import folders, open_samples
from convit.data.locate import Source
from convit.data.samples import Samples
from convit.evaluation import match_classes
from convit.finetuning.cost import Cost, advise
from convit.finetuning.images import choose_held_out, divide, find_labeled_images
from convit.finetuning.options import FinetuneOptions
from convit.finetuning.plan import Plan, plan_finetune, resume_plan
from convit.finetuning.run import finetune, images_to_score
from convit.finetuning.settings import (
    choose_augmentation,
    choose_balance,
    choose_batch_size,
    choose_epochs,
    choose_rate,
    choose_schedule,
    find_starting_weights,
)
from convit.training.optimizers import peak_rate
from convit.training.recipe import OptimizerRecipe, Recipe
from convit.weights import WEIGHT_SETS
from convit.weights.weight_sets import BUNDLED_NAMES
from tests.data.making import picture, write_folder, write_parquet, write_shard

NANO = "convit_nano_patch4_32.cifar10"
CPU = torch.device("cpu")


def _fill(root: Path, **sizes: int) -> Path:
    for name, count in sizes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(number).save(root / name / f"{number}.png")
    return root


def _plan(source: Path, **options: object) -> Plan:
    return plan_finetune(source, FinetuneOptions(**({"model": NANO} | options)), device=CPU)  # pyright: ignore[reportArgumentType]


# The folder


def test_a_folder_per_class_is_found_and_a_part_of_each_held_out(tmp_path: Path) -> None:
    found = find_labeled_images(_fill(tmp_path / "pets", cat=50, dog=30))
    assert (found.name, found.train, found.validation, found.classes) == ("pets", ".", None, ("cat", "dog"))
    assert found.counts() == {"cat": 50, "dog": 30}
    division = divide(found, seed=0)
    assert division.held_out == 14
    assert division.validation == (9, 5)
    assert division.training == (41, 25)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Validation", "val_set"])
def test_train_and_validation_folders_are_used_as_they_are(tmp_path: Path, name: str) -> None:
    _fill(tmp_path / "train", cat=6, dog=6)
    _fill(tmp_path / name, cat=2, dog=1)
    found = find_labeled_images(tmp_path)
    assert (found.train, found.validation) == ("train", name)
    division = divide(found, seed=0)
    assert (division.held_out, division.training, division.validation) == (0, (6, 6), (2, 1))


def test_a_test_folder_beside_validation_is_for_the_end_and_said_so(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        _fill(tmp_path / part, cat=6, dog=6)
    found = find_labeled_images(tmp_path)
    assert found.validation == "val"
    assert found.warnings == ()
    assert found.layout.endswith(f"test images for the end in {tmp_path}/test/")
    assert found.test is not None
    assert len(found.test) == 12


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("images/TRAIN", "images/TEST"),
        ("seg_train/seg_train", "seg_test/seg_test"),
    ],
)
def test_a_test_folder_is_neither_trained_nor_selected_on(tmp_path: Path, train: str, test: str) -> None:
    for part in (train, test):
        _fill(tmp_path / part, cat=6, dog=6)
    found = find_labeled_images(tmp_path)
    assert (found.train, found.validation, found.counts()) == (train, None, {"cat": 6, "dog": 6})
    assert f"test images for the end in {tmp_path}/{test}/" in found.layout
    assert divide(found, seed=0).held_out > 0
    if not train.startswith("images"):
        assert len(open_samples(tmp_path / test.partition("/")[0])) == len(open_samples(tmp_path, split="test")) == 12


def test_a_test_part_with_other_classes_is_left_alone(tmp_path: Path) -> None:
    _fill(tmp_path / "train", cat=6, dog=6)
    _fill(tmp_path / "test", cat=2, unknown=3)
    found = find_labeled_images(tmp_path)
    assert found.test is None
    assert "for the end" not in found.layout
    assert re.search(r"test/ is left alone, as it cannot be scored: .*unknown", found.warnings[0])


def test_classes_of_a_test_part_may_be_spelled_otherwise(tmp_path: Path) -> None:
    _fill(tmp_path / "train", **{"Café": 6, "01": 6, "Dog": 6})
    _fill(tmp_path / "val", **{"1": 1, "café": 2})
    _fill(tmp_path / "test", **{"cafe\u0301": 1, "1": 2, "dog": 3})
    found = find_labeled_images(tmp_path)
    assert (found.classes, found.warnings) == (("01", "Café", "Dog"), ())
    assert found.test is not None
    assert [Counter(part.labels) for part in (found.test, found.validation_samples) if part] == [
        {0: 2, 1: 1, 2: 3},
        {0: 1, 1: 2},
    ]
    _fill(tmp_path / "test", DOG=1)
    assert "'DOG' of the sub-folders of" in find_labeled_images(tmp_path).warnings[0]
    assert "is the same as another one among the 3 known" in find_labeled_images(tmp_path).warnings[0]


def test_parts_that_are_tables_are_told_apart(tmp_path: Path) -> None:
    for part, count in (("train", 12), ("validation", 4), ("test", 2)):
        write_parquet(tmp_path / f"{part}-0.parquet", range(count))
    found = find_labeled_images(tmp_path)
    assert (len(found.samples), len(found.validation_samples or ())) == (12, 4)
    assert found.layout.endswith("test-0.parquet")
    assert len(found.test or ()) == 2


def test_folds_are_not_classes(tmp_path: Path) -> None:
    for fold in ("one", "two"):
        _fill(tmp_path / fold, cat=6, dog=6)
    with pytest.raises(ValueError, match=r"sub-folders one, two of .* are not classes: each holds cat, dog; call the"):
        find_labeled_images(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert find_labeled_images(_fill(tmp_path, bus=6, train=6)).classes == ("bus", "train")


def test_shards_and_parquet_are_taken_as_they_are(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "dots.tar", range(12))
    found = find_labeled_images(shard)
    assert (found.name, found.train, found.counts()) == ("dots", str(shard), {"0": 6, "1": 6})
    assert find_labeled_images(write_parquet(tmp_path / "t.parquet", range(12))).classes == ("even", "odd")


@pytest.mark.parametrize("sizes", [(400, 400), (100, 30), (1000, 9), (60, 40, 12, 5), (200, 6, 6, 6)])
def test_about_a_sixth_is_held_out_and_one_of_each_class_that_allows_it(sizes: tuple[int, ...]) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    count = choose_held_out(labels)
    assert 0.15 <= count / len(labels) <= 0.25


def test_every_class_keeps_a_picture_to_train_on(tmp_path: Path) -> None:
    found = find_labeled_images(_fill(tmp_path, a=1, b=1, c=1, d=2, e=5))
    division = divide(found, seed=0)
    assert min(division.training) == 1
    assert "'a' (1)" in division.warnings[0]


def test_at_most_five_thousand_are_held_out() -> None:
    assert choose_held_out([0, 1] * 50_000) == 5000


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"cat": 20}, "at least two classes"),
        ({"cat": 20, "dog": 0}, "dog holds no image; fill it or remove it"),
        ({"cat": 3, "dog": 3}, "holds 6 images, but fine-tuning needs at least 10"),
        ({f"c{index}": 1 for index in range(12)}, "each class has a single image"),
        ({}, "has no class sub-folders"),
    ],
)
def test_pictures_that_nothing_can_be_learned_from(tmp_path: Path, sizes: dict[str, int], words: str) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ValueError, match=words):
        plan_finetune(_fill(tmp_path / "pictures", **sizes), FinetuneOptions(model=NANO), device=CPU)


def test_a_list_beside_the_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"or give a \.csv of images and labels"):
        find_labeled_images(tmp_path)
    (tmp_path / "metadata.csv").touch()
    with pytest.raises(ValueError, match=rf"or name the list {tmp_path}/metadata\.csv"):
        find_labeled_images(tmp_path)


@pytest.mark.parametrize("change", ["data.train=other", "data.classes=classes.json"])
def test_what_all_is_chosen_by_cannot_be_set(tmp_path: Path, change: str) -> None:
    with pytest.raises(
        ValueError, match=r"data.train and data.classes cannot be set here, .* --dry-run to `convit train`"
    ):
        plan_finetune(_fill(tmp_path, cat=6, dog=6), FinetuneOptions(model=NANO, changes=(change,)), device=CPU)


def test_a_file_and_an_absent_folder(tmp_path: Path) -> None:
    (tmp_path / "pictures.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"pictures\.zip is a file; .*unpack"):
        find_labeled_images(tmp_path / "pictures.zip")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_labeled_images(tmp_path / "none")


def test_a_validation_class_that_is_not_trained_on(tmp_path: Path) -> None:
    _fill(tmp_path / "train", cat=6, dog=6)
    _fill(tmp_path / "val", cat=2, bird=2)
    with pytest.raises(ValueError, match=r"'bird' of the sub-folders of .*val is none of the 2 known classes"):
        find_labeled_images(tmp_path)


# Settings


@pytest.mark.parametrize("images", [10, 50, 200, 700, 3000, 20_000, 1_000_000])
@pytest.mark.parametrize("on_cpu", [True, False])
def test_steps_and_epochs_suit_the_number_of_pictures(images: int, on_cpu: bool) -> None:
    batch = choose_batch_size(images, on_cpu=on_cpu).value
    epochs = choose_epochs(images, batch).value
    assert batch & (batch - 1) == 0
    assert 2 <= batch <= (32 if on_cpu else 256)
    assert batch <= images
    assert images // batch >= 20 or batch <= 8
    assert 10 <= epochs <= 50


def test_more_pictures_never_mean_more_epochs() -> None:
    epochs = [
        choose_epochs(images, choose_batch_size(images, on_cpu=False).value).value for images in (80, 400, 2000, 10**5)
    ]
    assert epochs == sorted(epochs, reverse=True)
    assert 20 <= epochs[1] <= 50
    assert epochs[3] == 10


@pytest.mark.parametrize("batch", [8, 64, 256])
def test_the_wanted_rate_is_the_rate_at_the_peak(batch: int) -> None:
    chosen = {choice.key: choice.value for choice in choose_rate(batch, frozen=False, wanted=3e-4)}
    assert peak_rate(OptimizerRecipe(lr=chosen["optimizer.lr"]), batch) == pytest.approx(3e-4, rel=1e-4)
    assert chosen["schedule.min_lr"] == pytest.approx(3e-6)


def test_uneven_classes_are_balanced_as_far_as_their_pictures_allow() -> None:
    assert choose_balance([30, 10]) == []
    (weights,) = choose_balance([62, 20])
    assert (weights.key, weights.value) == ("mixing.class_weights", "balanced")
    assert "62 images, the smallest 20" in weights.reason
    (sampling,) = choose_balance([1000, 20])
    assert (sampling.key, sampling.value) == ("data.balanced", True)
    (gentle,) = choose_balance([100, 1, 25])
    assert (gentle.key, gentle.value) == ("mixing.class_weights", [1.0, 10.0, 2.0])


def test_mixing_takes_more_than_two_thousand_pictures() -> None:
    few, many = ({each.key for each in choose_augmentation(count, 224, 20, ["a1", "b1"])} for count in (2000, 2001))
    assert many - few == {"mixing.mixup", "mixing.cutmix", "mixing.probability", "mixing.off_epochs"}


@pytest.mark.parametrize(
    ("classes", "flip"),
    [
        (["cat", "dog"], 0.5),
        (["turn left", "turn-right"], 0.0),
        (["a", "b", "c"], 0.0),
        (["leftover", "x2"], 0.5),
        (["3", "8"], 0.0),
        ([*"0123456789"], 0.0),
        ([*map(str, range(43))], 0.0),
    ],
)
def test_sides_and_characters_are_not_mirrored(classes: list[str], flip: float) -> None:
    chosen = {choice.key: choice.value for choice in choose_augmentation(100, 224, 20, classes)}
    assert chosen["augment.flip"] == flip


def test_short_runs_have_neither_averaging_nor_early_stopping() -> None:
    assert {choice.key for choice in choose_schedule(3, 30)} == {
        "schedule.warmup_epochs",
        "schedule.cooldown_epochs",
        "run.select",
    }
    long = {choice.key: choice.value for choice in choose_schedule(30, 1000)}
    assert (long["schedule.patience"], long["ema"]) == (10, {"decay": 0.99})


def test_without_a_network_the_weights_in_the_package_are_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    plan = _plan(_fill(tmp_path / "pets", cat=6, dog=6), model=None)
    assert plan.recipe.model.weights == BUNDLED_NAMES[0]
    assert plan.warnings[0] == (
        f"convit_tiny.fb_in1k cannot be fetched (HF_HUB_OFFLINE is set); {BUNDLED_NAMES[0]} is in the package"
    )


def test_weights_that_are_known_are_not_sought_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = find_starting_weights(NANO, CPU)
    sought: list[object] = []
    monkeypatch.setattr("convit.finetuning.plan.find_starting_weights", lambda *given: sought.append(given))
    plan = plan_finetune(_fill(tmp_path / "pets", cat=6, dog=6), device=CPU, start=start)
    assert (plan.recipe.model.weights, sought) == (NANO, [])


def test_the_default_weights_suit_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convit.finetuning.settings.why_unavailable", lambda _: None)
    assert find_starting_weights(None, CPU).weights == "convit_tiny.fb_in1k"
    assert find_starting_weights(None, torch.device("cuda")).weights == "convit_small.fb_in1k"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("convit_bas", "did you mean"),
        ("convit_small_plus", "no pretrained weights"),
        ("mine.safetensors", "no weight file"),
    ],
)
def test_unknown_weights(model: str, words: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        find_starting_weights(model, CPU)


# The plan


def test_a_plan_takes_preprocessing_and_classes_from_weights_and_pictures(tmp_path: Path) -> None:
    plan = _plan(write_folder(tmp_path / "pets", ("cat", "dog", "fox"), per_class=10))
    known, recipe = WEIGHT_SETS[NANO], plan.recipe
    assert recipe.model.options["num_classes"] == 3
    assert recipe.augment.preprocessing(32, 32) == known.preprocessing
    assert (recipe.data.name, recipe.data.train, recipe.run.select, recipe.run.precision) == (
        "pets",
        ".",
        "best",
        "auto",
    )
    assert all(choice.reason for choice in plan.choices)


def test_a_plan_reads_back_as_the_same_recipe_with_its_reasons(tmp_path: Path) -> None:
    plan = _plan(_fill(tmp_path / "pets", cat=40, dog=4), changes=("schedule.epochs=3",))
    text = plan.to_yaml()
    assert Recipe.model_validate(yaml.safe_load(text)) == plan.recipe
    lines = {line.strip().partition(":")[0]: line for line in text.splitlines()}
    assert lines["epochs"] == "  epochs: 3  # changed with --set"
    assert "small classes" in lines["class_weights"]
    assert "of the images, of each class in proportion" in lines["held_out"]


def test_a_plan_of_images_of_any_name_reads_back(tmp_path: Path) -> None:
    folder = _fill(tmp_path / "two\nlines: of\u202e", cat=40, dog=4)
    (folder / "dog").rename(folder / "dog\nor wolf")
    plan = _plan(folder)
    assert Recipe.model_validate(yaml.safe_load(plan.to_yaml())) == plan.recipe
    assert plan.to_yaml().replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"img_size": 30}, "not tiled by patches of 4"),
        ({"epochs": 0}, "the number of epochs is 0"),
        ({"batch_size": 1000}, "the batch size is 1000, but must be 2 to 16"),
        ({"lr": -1.0}, "the learning rate is -1.0"),
        ({"changes": ("schedule.epoch=3",)}, "unknown key 'schedule.epoch'; the closest is 'schedule.epochs'"),
        ({"changes": ("epochs",)}, "is not a setting"),
    ],
)
def test_wishes_that_cannot_be_met(tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _plan(write_folder(tmp_path / "pets", ("cat", "dog"), per_class=10), **options)


def test_freezing_the_backbone_leaves_out_what_belongs_to_it(tmp_path: Path) -> None:
    recipe = _plan(write_folder(tmp_path / "pets", ("cat", "dog"), per_class=10), freeze=("backbone",)).recipe
    assert recipe.model.freeze == ["backbone"]
    assert "drop_path_rate" not in recipe.model.options
    assert recipe.optimizer.layer_decay == 1.0


# The whole run


def test_a_folder_is_opened_and_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the plan by way of its cost, its split and the training to the scores of the report."""
    source = _fill(tmp_path / "pets", cat=8, dog=8)
    opened: list[object] = []
    listed: list[str] = []
    open_source = folders.open_source

    def count(place: Source, **options: Any) -> Samples:
        opened.append(place)
        return open_source(place, **options)

    monkeypatch.setattr(folders, "open_source", count)
    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, _noting(getattr(os, name), source, listed))
    plan = _plan(source, epochs=1, changes=("run.loggers=[]",))
    assert opened == [source]
    assert listed
    once = list(listed)
    opened.clear()
    listed.clear()
    result = finetune(source, tmp_path / "run", model=NANO, epochs=1, changes=("run.loggers=[]",), quiet=True)
    assert result is not None
    assert result.evaluation is not None
    assert result.evaluation.count == plan.recipe.data.held_out
    assert (opened, listed) == ([source], once)


def _noting(function: Callable[..., Any], root: Path, listed: list[str]) -> Callable[..., Any]:
    def note(place: Any = ".", *rest: Any) -> Any:
        if str(place).startswith(str(root)):
            listed.append(str(place))
        return function(place, *rest)

    return note


# What came of it


def test_labels_are_counted_in_index_order(tmp_path: Path) -> None:
    found = find_labeled_images(_fill(tmp_path, b=4, a=9))
    assert Counter(found.samples.labels) == {0: 9, 1: 4}


@pytest.mark.parametrize("names", [("5", "70"), ("a", "b"), ("0", "1")])
def test_images_are_scored_by_the_models_own_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = find_labeled_images(_fill(tmp_path, **dict.fromkeys(names, 6)))
    images = images_to_score(found.samples, range(len(found.samples)), tmp_path)
    assert match_classes(images, found.classes, 2) == [0, 1]


@pytest.mark.parametrize("size", [24, (24, 24), (24, 40)])
def test_the_same_options_beside_resume_change_nothing(tmp_path: Path, size: int | tuple[int, int]) -> None:
    options = FinetuneOptions(NANO, size, 3, 4, 0.00123456, 2, ("backbone",), ("schedule.cooldown_epochs=1",))
    source, run = _fill(tmp_path / "pets", cat=12, dog=12), tmp_path / "run"
    plan = plan_finetune(source, options, device=CPU)
    plan.save(run)
    (run / "recipe.yaml").write_text(plan.to_yaml())
    assert resume_plan(source, run, options).recipe == plan.recipe


@pytest.mark.parametrize(
    ("model", "is_large"), [("convit_small.fb_in1k", True), ("convit_tiny.fb_in1k", False), (BUNDLED_NAMES[0], False)]
)
def test_a_smaller_model_is_advised_where_there_is_one(tmp_path: Path, model: str, is_large: bool) -> None:
    plan = _plan(_fill(tmp_path / "pets", cat=12, dog=12), model=model)
    ways = advise(plan, Cost(36000.0, 0.1, 0.1, 20, 4, 10, "cpu"))
    assert ways is not None
    assert ("--model convit_tiny.fb_in1k is smaller" in ways) == is_large
    assert advise(plan, Cost(60.0, 0.1, 0.1, 20, 4, 10, "cpu")) is None
