import re
import time
from pathlib import Path

import pytest
import yaml

from convit.model import VARIANTS
from convit.training.recipe import Recipe
from convit.training.recipe_io import read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
SMALL = "name: x\nmodel: {architecture: convit_tiny}\ndata: {name: y, train: z}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_projects_recipes_are_valid_and_open_with_what_must_be_said(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    VARIANTS[recipe.model.architecture].config.replace(**recipe.model.options)
    comment = path.read_text().split("\nname:")[0]
    for fact in ("# cost: ", "# hardware: ", "# expected accuracy: ", "# command: ", f"recipes/{path.name} "):
        assert fact in comment


def test_the_papers_recipe_stands_in_the_defaults_and_the_imagenet_recipes() -> None:
    assert len(RECIPES) >= 5
    recipe = read_recipe(next(path for path in RECIPES if path.stem == "imagenet1k_convit_base"))
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay, recipe.optimizer.eps, recipe.optimizer.clip_norm) == (
        5e-4,
        0.05,
        1e-8,
        None,
    )
    assert (recipe.schedule.epochs, recipe.schedule.warmup_epochs, recipe.schedule.cooldown_epochs) == (300, 5, 10)
    assert (recipe.schedule.warmup_lr, recipe.schedule.min_lr, recipe.run.batch_size) == (1e-6, 1e-5, 1024)
    assert (recipe.mixing.mixup, recipe.mixing.cutmix, recipe.mixing.switch, recipe.mixing.label_smoothing) == (
        0.8,
        1.0,
        0.5,
        0.1,
    )
    assert (recipe.augment.erasing, recipe.augment.repeats, recipe.ema) == (0.25, 3, None)


def test_settings_on_the_command_line_replace_the_files(file: Path) -> None:
    recipe = read_recipe(
        file,
        [
            "schedule.epochs=3",
            "optimizer.lr=1e-3",
            "model.options.drop_path_rate=0.2",
            "data.train=[a.tar, b.tar]",
            "ema.decay=0.9",
        ],
    )
    assert (recipe.schedule.epochs, recipe.optimizer.lr, recipe.data.train) == (3, 1e-3, ["a.tar", "b.tar"])
    assert recipe.model.options == {"drop_path_rate": 0.2}
    assert recipe.ema is not None
    assert Recipe.model_validate(yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode="json")))) == recipe


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("schedule.epoch=3", "unknown key 'schedule.epoch'; the closest is 'schedule.epochs'"),
        ("augment.rand_augment.magnitud=3", "closest is 'augment.rand_augment.magnitude'"),
        ("sede=1", "closest is 'seed'"),
        (
            "model.architecture=torchvision:resnet18",
            "'torchvision:resnet18': models of torchvision can be teachers only",
        ),
        ("schedule.epochs=many", "'schedule.epochs' is 'many'"),
        ("run.batch_size=0", "'run.batch_size' is 0"),
        ("run.strategy=fsdp2", "'run.strategy' is 'fsdp2': input should be 'auto' or 'ddp'"),
        ("optimiser.lr=1e-3", "unknown key 'optimiser'; the closest is 'optimizer'"),
        ("run.precision=fp8", "'run.precision' is 'fp8'"),
        ("augment.scale=[0.5, 2]", "'augment.scale.1' is 2: input should be less than or equal to 1"),
        ("augment.scale=[1, 0.5]", "scale goes from 1.0 to 0.5; write the smaller share first"),
        ("optimizer.betas=[0.9, 1]", "'optimizer.betas.1' is 1: input should be less than 1"),
        ("schedule.epochs", "write it as section.key=value"),
        ("name.part=1", "name, which is not a section"),
        ("seed=[", "not valid YAML"),
        ("seed=4294967296", "'seed' is 4294967296: input should be less than 4294967296"),
    ],
)
def test_wrong_settings_are_one_line_that_names_them(file: Path, change: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        read_recipe(file, [change])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [("a: [", "is not valid YAML"), ("- a", "does not hold a recipe"), ("name: x", "'model' is missing")],
)
def test_files_that_are_no_recipe_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ValueError, match=problem):
        read_recipe(tmp_path / "r.yaml")


def test_an_absent_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no recipe .*none\.yaml"):
        read_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("9" * 5000, "it has a number of 5,000 digits"),
        ("-0x" + "f" * 90, "it has a number of 93 digits"),
        ("[" * 5000, "it is nested more than 20 levels deep"),
        ("{a: " * 300, "it is nested more than 20 levels deep"),
        ("[&one [1, 2], *one]", "it has an alias (*name); write the value out"),
        ("!!timestamp 2020-99-99", "it has a tag (!name); write a plain value"),
        ("!!python/object:os.system {}", "it has a tag"),
        ("!!bool 3", "it has a tag"),
        ("[" + "1, " * 30_000 + "1]", "it has more than 25,000 keys and values"),
        ("'" + "x" * 100_000, "while scanning a quoted scalar"),
        ("\x07", "special characters are not allowed"),
    ],
)
def test_what_yaml_could_make_endless_is_one_short_line(file: Path, text: str, problem: str) -> None:
    before = time.monotonic()
    for read in (lambda: read_recipe(file, [f"name={text}"]), lambda: read_recipe(file)):
        with pytest.raises(ValueError, match="is not valid YAML: ") as caught:
            read()
        assert problem in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 700
        file.write_text(SMALL + f"seed: {text}\n")
    assert time.monotonic() - before < 30


def test_aliases_that_double_are_refused_before_they_grow(file: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    file.write_text("\n".join(lines))
    with pytest.raises(ValueError, match="it has an alias"):
        read_recipe(file)


def test_a_file_of_megabytes_is_not_read(file: Path) -> None:
    file.write_text(SMALL + "# " + "x" * 3_000_000)
    with pytest.raises(ValueError, match=r"has 3,\d+,\d+ bytes, but a recipe has at most 262,144"):
        read_recipe(file)


def test_dates_are_text_and_numbers_are_finite(file: Path) -> None:
    assert read_recipe(file, ["name=2020-99-99"]).name == "2020-99-99"
    for change in ("seed=2020-01-01", "optimizer.lr=.inf", "optimizer.lr=1e999", "schedule.min_lr=.nan"):
        with pytest.raises(ValueError, match=f"'{change.partition('=')[0]}' is "):
            read_recipe(file, [change])


def test_weights_of_twenty_thousand_classes_are_a_recipe(file: Path) -> None:
    weights = ", ".join(["1.25"] * 21_841)
    recipe = read_recipe(file, [f"mixing.class_weights=[{weights}]"])
    assert isinstance(recipe.mixing.class_weights, list)
    assert len(recipe.mixing.class_weights) == 21_841
