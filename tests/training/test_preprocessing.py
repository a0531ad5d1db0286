"""Preprocessing is one value on its whole way: recipe, validation, weight file, classifier, evaluation, fine-tuning."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convit import Classifier, Embedder, load_model
from convit.evaluation import Evaluator
from convit.finetuning.options import FinetuneOptions
from convit.finetuning.plan import plan_finetune
from convit.training.run import run_recipe
from convit.training.splits import transforms_for
from convit.transforms import TransformSettings
from tests.training.small import small_recipe, write_data

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
CHANGES = {"crop_pct": "0.8", "mean": list(MEAN), "std": list(STD)}


@pytest.mark.parametrize(("crop_mode", "interpolation"), [("squash", "hamming"), ("border", "nearest")])
def test_preprocessing_arrives_whole(tmp_path: Path, crop_mode: str, interpolation: str) -> None:
    changes = CHANGES | {"crop_mode": crop_mode, "interpolation": interpolation}
    recipe = small_recipe(
        tmp_path, "schedule.epochs=1", *(f"augment.{name}={value}" for name, value in changes.items())
    )
    expected = TransformSettings((3, 8, 8), interpolation, MEAN, STD, 0.8, crop_mode)
    assert recipe.augment.preprocessing(8, 8) == expected
    weights = run_recipe(recipe, write_data(tmp_path / "data"), tmp_path / "run", quiet=True)
    assert TransformSettings.from_model(load_model(weights)) == expected
    classifier = Classifier(weights=weights, device="cpu")
    for predictor in (classifier, Embedder(weights=weights, device="cpu"), Evaluator(weights=weights, device="cpu")):
        assert predictor.transform.settings == expected
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8))
    validated = transforms_for(recipe, 8, 8)[1](image)
    assert torch.equal(validated, classifier.transform(image))
    # the next fine-tuning starts from the file
    for label in ("cat", "dog"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(12):
            image.rotate(number).save(tmp_path / "images" / label / f"{number}.png")
    plan = plan_finetune(tmp_path / "images", FinetuneOptions(model=str(weights)), device=torch.device("cpu"))
    assert plan.recipe.augment.preprocessing(8, 8) == expected


def test_what_an_earlier_card_does_not_say_is_the_default() -> None:
    card = {"mean": list(MEAN), "std": None, "architecture": "convit_tiny"}
    assert TransformSettings.from_card(card) == TransformSettings(mean=MEAN)
    assert TransformSettings.from_card(card, std=STD, crop_mode=None) == TransformSettings(mean=MEAN, std=STD)
