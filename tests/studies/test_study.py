"""Planning: epochs, folders, seeds, and what is refused before anything is trained."""

from pathlib import Path

import pytest

from convit.training.recipe import Recipe
from studies.sample_efficiency import default_models, plan_sample_efficiency, read_models
from studies.study import Study, change, fingerprint, folder_name, stretch
from studies.transfer import SCRATCH, plan_transfer
from tests.training.small import small_recipe, write_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


def _plan(recipe: Recipe, data: Path, shares: list[float], seeds: int = 1, epochs: float | None = None) -> Study:
    models = read_models(default_models(recipe), recipe)
    return plan_sample_efficiency(recipe, models, shares, seeds, data, epochs)


def test_epochs_and_warm_up_are_lengthened_as_the_data_shrink(tmp_path: Path, data: Path) -> None:
    recipe = small_recipe(tmp_path, "mixing.off_epochs=1")
    study = _plan(recipe, data, [0.25, 0.5, 1.0], epochs=4)
    found = [
        (run.recipe.data.share, schedule.epochs, schedule.warmup_epochs, schedule.cooldown_epochs, run.images)
        for run in study.runs
        if run.row == "ConViT"
        for schedule in [run.recipe.schedule]
    ]
    assert found == [(0.25, 16, 4.0, 8, 8), (0.5, 8, 2.0, 4, 16), (1.0, 4, 1.0, 2, 32)]
    assert [run.recipe.mixing.off_epochs for run in study.runs if run.row == "ConViT"] == [8, 4, 2]


def test_patience_and_final_epochs_are_lengthened_too(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, "schedule.patience=2", "schedule.final_epochs=1", "schedule.final_img_size=16")
    schedule = stretch(recipe, 10).schedule
    assert (schedule.epochs, schedule.patience, schedule.final_epochs) == (20, 20, 10)


def test_all_models_have_the_same_recipe_and_folders_of_their_own(tmp_path: Path, data: Path) -> None:
    recipe = small_recipe(tmp_path)
    study = _plan(recipe, data, [0.5, 1.0], seeds=2)
    assert [run.folder.as_posix() for run in study.runs[:4]] == [
        "ConViT/share-0.5/seed-1",
        "DeiT/share-0.5/seed-1",
        "ConViT/share-1/seed-1",
        "DeiT/share-1/seed-1",
    ]
    assert {run.recipe.seed for run in study.runs} == {1, 2}
    assert len({run.folder for run in study.runs}) == len(study.runs) == 8
    ours, theirs = study.runs[:2]
    assert change(theirs.recipe, model=ours.recipe.model.model_dump(mode="json")) == ours.recipe
    assert theirs.recipe.model.options == recipe.model.options | {"local_up_to_layer": 0}
    assert study.comparisons == (("ConViT", "DeiT"),)


def test_a_fingerprint_leaves_out_the_name_alone(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path)
    assert fingerprint(change(recipe, name="other")) == fingerprint(recipe)
    assert fingerprint(change(recipe, seed=7)) != fingerprint(recipe)


def test_labels_become_folders() -> None:
    assert folder_name("timm:deit_tiny_patch16_224,depth=6") == "timm-deit_tiny_patch16_224-depth=6"
    assert folder_name("gates frozen at 0.5") == "gates-frozen-at-0.5"


def test_transfer_counts_images(tmp_path: Path, data: Path) -> None:
    study = plan_transfer(small_recipe(tmp_path), str(_weights(tmp_path)), [8, 32], 1, data)
    assert [(run.row, run.column.label, run.images, run.recipe.schedule.epochs) for run in study.runs] == [
        ("fine-tuned from start.safetensors", "8", 8, 8),
        (SCRATCH, "8", 8, 8),
        ("fine-tuned from start.safetensors", "32", 32, 2),
        (SCRATCH, "32", 32, 2),
    ]
    assert [run.recipe.model.weights is None for run in study.runs] == [False, True, False, True]


def test_impossible_numbers_of_images_are_refused(tmp_path: Path, data: Path) -> None:
    weights = str(_weights(tmp_path))
    with pytest.raises(ValueError, match="33 images are asked for, but there are 32 training images"):
        plan_transfer(small_recipe(tmp_path), weights, [33], 1, data)
    with pytest.raises(ValueError, match=r"9 images cannot be taken in proportion: .* which makes 8; take that many"):
        plan_transfer(small_recipe(tmp_path), weights, [9], 1, data)


def test_a_share_below_a_batch_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(ValueError, match=r"a share of 0.1 leaves 4 of 40 images, fewer than a batch of 8; take more"):
        _plan(small_recipe(tmp_path), data, [0.1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.reader=stream", "data.held_out=1"], "a study takes shares of the data; use data.reader=memory"),
        (["model.options.heads=3"], "'heads' is not a ConViT option"),
    ],
)
def test_recipes_that_cannot_be_studied_are_refused(
    tmp_path: Path, data: Path, changes: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _plan(small_recipe(tmp_path, *changes), data, [1.0])


def test_absent_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*gone; .*--data"):
        _plan(small_recipe(tmp_path), tmp_path / "gone", [1.0])


def test_odd_epochs_and_seeds_are_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(ValueError, match="the epochs on all images are 0, but must be above 0"):
        _plan(small_recipe(tmp_path), data, [1.0], epochs=0)
    with pytest.raises(ValueError, match="seeds is 0, but must be at least 1"):
        _plan(small_recipe(tmp_path), data, [1.0], seeds=0)


def test_two_labels_of_one_folder_are_refused(tmp_path: Path, data: Path) -> None:
    recipe = small_recipe(tmp_path)
    models = read_models(["a:b=convit_nano_patch4_32", "a/b=convit_nano_patch4_32"], recipe)
    with pytest.raises(ValueError, match=r"the model 'a:b' has no folder of its own \(a-b\); give it another label"):
        plan_sample_efficiency(recipe, models, [1.0], 1, data)


def _weights(folder: Path) -> Path:
    from convit.model import VARIANTS, ConViT
    from convit.weights import save_weights

    options = small_recipe(folder).model.options
    model = ConViT(VARIANTS["convit_nano_patch4_32"].config.replace(**options))
    file = folder / "start.safetensors"
    save_weights(file, model, {"classes": ["even", "odd"]})
    return file
