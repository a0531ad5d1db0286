"""Lists of images, with labels or without, as the data of every command."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.cli.conftest import Run

Command = Callable[..., Run]
COLORS = {"airplane": (200, 40, 40), "bird": (40, 180, 60), "cat": (40, 60, 200)}
NANO = ("--model", "convit_nano_patch4_32.cifar10")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images side by side in a folder, and Kaggle's train.csv above it."""
    place, draw = tmp_path_factory.mktemp("kaggle"), np.random.default_rng(0)
    (place / "train_images").mkdir()
    lines = ["image_id,label"]
    for number in range(30):
        label, color = list(COLORS.items())[number % 3]
        pixels = np.clip(np.array(color) + draw.normal(0, 12, (24, 24, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / "train_images" / f"{number:03d}.png")
        lines.append(f"{number:03d},{label}")
    (place / "train.csv").write_text("\n".join(lines) + "\n")
    (place / "some.txt").write_text("train_images/000.png\ntrain_images/003.png\n")
    return place


@pytest.fixture
def in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


LABELED = ("train.csv", "--images", "train_images")


@pytest.mark.usefixtures("in_place")
def test_classify_and_embed_take_the_images_of_a_list(convit: Command) -> None:
    for command in ("classify", "embed"):
        run = convit(command, "some.txt", *NANO)
        assert (run.code, [row["path"] for row in run.rows]) == (0, ["train_images/000.png", "train_images/003.png"])
    assert len(convit("classify", *LABELED, *NANO).rows) == 30


@pytest.mark.usefixtures("in_place")
@pytest.mark.parametrize("options", [("evaluate",), ("probe", "--probe", "knn", "--shots", "none", "--no-cache")])
def test_labels_are_read_from_a_table(convit: Command, options: Sequence[str]) -> None:
    run = convit(options[0], *LABELED, *options[1:], *NANO, "--format", "json")
    assert run.code == 0, run.err
    assert json.loads(run.out)["data" if options[0] == "evaluate" else "train"].get("kind", "list") == "list"


@pytest.mark.usefixtures("in_place")
def test_duplicates_need_no_labels(convit: Command) -> None:
    for source in (("some.txt",), LABELED):
        run = convit("duplicates", *source, *NANO, "--threshold", 1, "--difference", 0)
        assert (run.code, run.rows) == (0, []), run.err


@pytest.mark.usefixtures("in_place")
def test_an_index_is_made_of_a_list(convit: Command, tmp_path: Path) -> None:
    db = tmp_path / "db"
    for new, unchanged in ((30, 0), (0, 30)):
        run = convit("index", *LABELED, "--db", db, *NANO)
        assert (run.code, run.rows[0]["new"], run.rows[0]["unchanged"]) == (0, new, unchanged), run.err
    hit = convit("search", "train_images/001.png", "--db", db, "-k", 1).rows[0]
    assert (hit["path"], hit["label"]) == ("001.png", "bird")
    assert convit("duplicates", "--db", db, "--threshold", 1, "--difference", 0).rows == []
    assert "say nothing of an index" in convit("duplicates", "--db", db, "--allow-outside").err
    assert "no list nowhere.csv" in convit("index", "nowhere.csv", "--db", tmp_path / "x").err


def test_finetune_keeps_in_the_recipe_where_the_images_are(convit: Command, in_place: Path) -> None:
    run = convit("finetune", *LABELED, *NANO, "--dry-run")
    assert run.code == 0, run.err
    recipe = yaml.safe_load(run.out)
    assert recipe["data"]["train"] == "train.csv?images=train_images"
    assert "found 3 classes (airplane, bird, cat) in list data train.csv" in run.out + run.err
    output = in_place / "run"
    quick = ("--epochs", 1, "--set", "data.workers=0", "--set", "run.loggers=[]", "--output", output)
    assert convit("finetune", *LABELED, *NANO, *quick, "-q").code == 0
    assert convit("evaluate", *LABELED, "--weights", output / "weights.safetensors", "-q").code == 0


@pytest.mark.usefixtures("in_place")
def test_an_image_that_is_named_twice_counts_once_and_has_one_label(convit: Command, tmp_path: Path) -> None:
    lines = Path("train.csv").read_text("utf-8").splitlines()
    name, label = lines[1].split(",")
    other = next(line for line in lines[2:] if not line.endswith(f",{label}")).split(",")[1]
    Path("again.csv").write_text("\n".join([*lines, lines[1], f"./{lines[2]}"]))
    run = convit("evaluate", "again.csv", *LABELED[1:], *NANO, "--format", "json")
    assert (run.code, json.loads(run.out)["count"]) == (0, 30), run.err
    assert convit("index", "again.csv", *LABELED[1:], "--db", tmp_path / "db", *NANO).rows[0]["images"] == 30
    exact = (*NANO, "--threshold", 1, "--difference", 0)
    assert convit("duplicates", "again.csv", *LABELED[1:], *exact).rows == []  # an image is no copy of itself
    Path("two.csv").write_text("\n".join([*lines, f"{name},{other}"]))
    for command in (("evaluate",), ("index", "--db", tmp_path / "two")):
        run = convit(*command, "two.csv", *LABELED[1:], *NANO)
        assert run.code == 2
        assert re.search(rf"two\.csv calls {name}\S* '{label}' and also '{other}', but an image has one", run.err)
    pair = convit("duplicates", "two.csv", *LABELED[1:], *exact).rows[0]  # which looks for such mistakes
    assert (pair["first"], pair["first_label"], pair["second_label"]) == (f"{name}.png", label, other)


@pytest.mark.usefixtures("in_place")
def test_folders_above_the_images_are_no_labels(convit: Command, tmp_path: Path) -> None:
    (tmp_path / "a" / "bird").mkdir(parents=True)
    (tmp_path / "a" / "bird" / "000.png").write_bytes(Path("train_images/000.png").read_bytes())
    Path("anywhere.txt").write_text(f"train_images/000.png\n{tmp_path}/a/bird/000.png\n")
    pair = convit("duplicates", "anywhere.txt", "--allow-outside", *NANO, "--threshold", 1).rows[0]
    assert (pair["first_label"], pair["second_label"], pair["labels_differ"]) == (None, None, False)


@pytest.mark.usefixtures("in_place")
def test_what_is_wrong_with_a_list_is_said_in_one_line(convit: Command, place: Path) -> None:
    run = convit("evaluate", "train.csv", *NANO)
    assert run.code == 2
    assert "none of the 30 images of train.csv is in . (the first is 000); say with --images" in run.err
    (place / "outside.txt").write_text("/etc/passwd\n")
    assert "outside of the images' folder" in convit("classify", "outside.txt", *NANO).err
    run = convit("classify", "outside.txt", *NANO, "--allow-outside")
    assert (run.code, run.rows[0]["path"]) == (3, "/etc/passwd")
    assert "--images and --allow-outside say nothing of it" in convit("evaluate", ".", "--images", "x", *NANO).err
