import re
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
        ("schedule.epochs=many", "'schedule.epochs' is 'many'"),
        ("run.batch_size=0", "'run.batch_size' is 0"),
        (
            "run.strategy=fsdp2",
            "'run.strategy' is 'fsdp2': it was removed; set ddp, which is enough for models of at",
        ),
        ("run.precision=fp8", "'run.precision' is 'fp8'"),
        ("schedule.epochs", "write it as section.key=value"),
        ("name.part=1", "name, which is not a section"),
        ("seed=[", "not valid YAML"),
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


@pytest.mark.parametrize("value", ["2020-99-99", "9" * 5000, "[" * 5000])
def test_values_that_yaml_itself_trips_over_are_said_in_one_line(file: Path, value: str) -> None:
    with pytest.raises(ValueError, match="is not valid YAML") as caught:
        read_recipe(file, [f"name={value}"])
    assert "\n" not in str(caught.value)
    file.write_text(SMALL + f"seed: {value}\n")
    with pytest.raises(ValueError, match=re.escape(f"{file} is not valid YAML")):
        read_recipe(file)
