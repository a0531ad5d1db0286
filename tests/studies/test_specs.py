"""Models and numbers as the command line writes them."""

from pathlib import Path

import pytest

from convit.training.recipe import Recipe
from studies.command import numbers
from studies.sample_efficiency import read_models, read_shares
from tests.training.small import small_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return small_recipe(tmp_path)


def test_the_recipes_own_variant_keeps_its_options(recipe: Recipe) -> None:
    rows = read_models(["A=convit_nano_patch4_32", "convit_nano_patch4_32,depth=3,local_up_to_layer=0"], recipe)
    own, other = rows["A"], rows["convit_nano_patch4_32,depth=3,local_up_to_layer=0"]
    assert own == recipe
    assert other.model.options == recipe.model.options | {"depth": 3, "local_up_to_layer": 0}
    assert other.schedule == recipe.schedule


def test_other_models_keep_the_number_of_classes_alone(recipe: Recipe) -> None:
    rows = read_models(["timm:deit_tiny_patch16_224,img_size=8", "tiny=convit_tiny"], recipe)
    peer, tiny = rows.values()
    assert peer.model.architecture == "timm:deit_tiny_patch16_224"
    assert peer.model.options == {"num_classes": 2, "img_size": 8}
    assert tiny.model.options == {"num_classes": 2}


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["convit_tinny"], "'convit_tinny' in the model 'convit_tinny' is not a variant or timm:NAME; .*convit_tiny"),
        (["A="], "is not a variant"),
        (["=convit_tiny"], "is not a variant"),
        (["convit_tiny,depth"], "'depth' in the model 'convit_tiny,depth' is not OPTION=VALUE"),
        (["convit_tiny", "convit_tiny"], "the model 'convit_tiny' comes twice; give one of the two another label"),
    ],
)
def test_what_is_not_a_model_is_refused(recipe: Recipe, specs: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_models(specs, recipe)


def test_numbers_are_sorted_and_taken_once() -> None:
    assert read_shares("1, 0.05,0.1,0.1") == [0.05, 0.1, 1.0]
    assert _counts("1000,100") == [100, 1000]


@pytest.mark.parametrize("text", ["0", "1.1", "-0.1", "nan", "a", "0.1,", ""])
def test_shares_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a share above 0 and up to 1, as in 0\.05,0\.1,0\.3,1"):
        read_shares(text)


@pytest.mark.parametrize("text", ["0", "1.5", "ten", ""])
def test_counts_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number of images above 0"):
        _counts(text)


def _counts(text: str) -> list[int]:
    return numbers(text, int, float("inf"), "a number of images above 0")
