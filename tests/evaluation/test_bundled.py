"""The weights that ship: what was measured is what ships, and the card says what was measured."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from convit.model import ConViT, ConViTConfig
from convit.weights import save_weights
from convit.weights.weight_sets import BUNDLED_FOLDER, BUNDLED_NAMES
from docs import make_cards as bundled

CLASSES = ("cat", "clock", "coffee cup", "page", "person", "rocket")


@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_the_file_that_was_measured_is_the_file_that_ships(name: str) -> None:
    weights = (BUNDLED_FOLDER / f"{name}.safetensors").read_bytes()
    measured = json.loads((BUNDLED_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert measured["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert measured["model"] == name
    assert measured["unreadable"] == 0
    assert measured["top1"] == 100 * measured["correct_top1"] / measured["count"]


@pytest.mark.parametrize("name", BUNDLED_NAMES)
def test_the_card_is_made_from_the_files_beside_it(name: str) -> None:
    assert (BUNDLED_FOLDER / f"{name}.md").read_text(encoding="utf-8") == bundled.render_card(name)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """What `convit train` leaves behind."""
    run = tmp_path / "run"
    run.mkdir()
    recipe = {"seed": 3, "ema": {"decay": 0.99}, "data": {"held_out": 1000}}
    described = {
        "classes": CLASSES,
        "trained_on": "Six photographs",
        "license": "Public domain",
        "recipe": recipe,
    }
    config = ConViTConfig(img_size=32, patch_size=8, embed_dim=8, depth=2, local_up_to_layer=1, num_classes=6)
    save_weights(run / "weights.safetensors", ConViT(config), described)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (run / "environment.yaml").write_text("device: some machine\n")
    lines = [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "seconds": 900.0,
            "images_per_second": 100.0 + epoch,
            "val_top1": 10.0 * epoch,
        }
        for epoch in (1, 2, 3)
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_from_a_run_to_a_card(tmp_path: Path, run: Path, folder: Path) -> None:
    shipped, name = tmp_path / "shipped", "convit_six.cifar10"
    bundled.adopt(run, name, shipped)
    measured = bundled.measure(name, str(folder), shipped)
    assert bundled.write_card(name, shipped) == bundled.write_card(name, shipped, check=True) == 0
    card = (shipped / f"{name}.md").read_text()
    assert card.startswith(f"# {name}\n")
    for part in (
        f"| photographs | 18 | {measured['top1']:.2f} % | {measured['top5']:.2f} % | {measured['loss']:.4f} |",
        hashlib.sha256((run / "weights.safetensors").read_bytes()).hexdigest(),
        "3 epochs in 0.75 hours at about 102 images/s (seed 3)",
        "moving average (decay 0.99)",
        "1,000 training images were\nheld out to watch the run: top-1 on them 30.00 % at the end",
        "device: some machine",
        "Six photographs. Public domain",
        "non-commercial research",
        "It knows 6 classes",
    ):
        assert part in card
    assert "$" not in card
    kept = json.loads((shipped / f"{name}.json").read_text())
    assert (kept["model"], kept["count"]) == (name, 18)
    (shipped / f"{name}.json").write_text(json.dumps(kept | {"top1": 99.0}))
    assert bundled.write_card(name, shipped, check=True) == 1


def test_epochs_of_a_continued_run_are_counted_on(tmp_path: Path, run: Path, folder: Path) -> None:
    shipped, name = tmp_path / "shipped", "convit_six.cifar10"
    bundled.adopt(run, name, shipped)
    bundled.adopt(run, name, shipped, continued=True)
    bundled.measure(name, str(folder), shipped)
    bundled.write_card(name, shipped)
    assert "6 epochs in 1.50 hours" in (shipped / f"{name}.md").read_text()
    lines = [json.loads(line) for line in (shipped / f"{name}.log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines] == [10, 20, 30, 40, 50, 60]


def test_an_unfinished_run_is_refused(run: Path, tmp_path: Path) -> None:
    (run / "weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks weights.safetensors; let `convit train` finish"):
        bundled.adopt(run, "convit_six.cifar10", tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()
