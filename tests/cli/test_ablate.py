"""`convit ablate`: its table and its JSON on real photographs, which images it takes, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from skimage import data

from tests.data.making import write_samples

Command = Callable[..., Any]
MODEL = ("--model", "convit_nano_patch4_32.cifar10", "--device", "cpu")
PICTURES = {"cat": data.chelsea, "airplane": data.rocket}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders under val/, and shards named test- beside them."""
    root = tmp_path_factory.mktemp("data")
    for name, picture in PICTURES.items():
        (root / "val" / name).mkdir(parents=True)
        for copy in range(3):
            Image.fromarray(picture()).resize((64, 48)).save(root / "val" / name / f"{copy}.png")
    (root / "classes.json").write_text(json.dumps(list(PICTURES)))
    for shard, label in enumerate((0, 1)):
        content = (root / "val" / list(PICTURES)[label] / "0.png").read_bytes()
        write_samples(root / f"test-{shard:06d}.tar", [(f"{label}.png", content, label)])
    return root


def test_the_table_has_every_row_of_the_paper_beside_ours(convit: Command, folder: Path) -> None:
    done = convit("ablate", folder, "--split", "val", *MODEL, terminal={"out"})
    assert done.code == 0, done.err
    assert "convit_nano_patch4_32.cifar10, 6 images (val, sha256" in done.out
    assert "paper's, on ImageNet-1k" in done.out
    for row in (
        "| no content | first 3 |",
        "| no position | first 5 (all) |",
        "| no content | first 10 | no such layers",
    ):
        assert row in done.out
    for figure in ("73.1", "67.1", "62.3", "35.0", "1.3", "63.5", "53.1", "46.8"):
        assert f"| {figure} |" in done.out


def test_json_holds_each_measurement_and_what_it_belongs_to(convit: Command, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "found.json"
    done = convit("ablate", folder, "--split", "test", *MODEL, "-o", output, "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
    found = json.loads(output.read_text())
    assert [(row["what"], row["layers"], row.get("count")) for row in found["rows"]] == [
        ("as trained", 0, 2),
        ("no position embedding", 0, 2),
        ("no content", 3, 2),
        ("no content", 5, 2),
        ("no content", 10, None),
        ("no position", 3, 2),
        ("no position", 5, 2),
        ("no position", 10, None),
    ]
    assert found["gated_layers"] == 5
    assert found["baseline"]["weights"] == "convit_nano_patch4_32.cifar10.safetensors"
    assert len(found["baseline"]["weights_sha256"]) == 64
    assert [file["name"] for file in found["baseline"]["data"]["files"]] == ["test-000000.tar", "test-000001.tar"]
    losses = {row["loss"] for row in found["rows"] if "loss" in row}
    assert len(losses) == 6  # every change shows


def test_one_experiment_and_a_limit_that_takes_every_class(convit: Command, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "found.md"
    command = ("ablate", folder / "val", *MODEL, "--experiment", "position-embedding", "--limit", "2", "-o", output)
    assert convit(*command).code == 0
    text = output.read_text()
    assert ", 2 images (" in text
    assert "no position embedding |" in text
    assert "no content |" not in text
    before = output.stat().st_mtime_ns
    assert convit(*command).code == 2
    assert output.stat().st_mtime_ns == before


def test_evenly_spaced_images_cover_both_classes(folder: Path) -> None:
    from convit.data import EvenlySpaced, open_samples

    chosen = EvenlySpaced(open_samples(folder, split="val"), 2)
    assert [image.name for image in chosen] == ["airplane/0.png", "cat/0.png"]
    assert chosen.identity()["evenly_spaced"] == 2
    assert len(EvenlySpaced(open_samples(folder, split="val"), 99)) == 6
    with pytest.raises(ValueError, match="limit is 0"):
        EvenlySpaced(open_samples(folder, split="val"), 0)


def test_a_picture_that_cannot_be_read_is_named(convit: Command, folder: Path, tmp_path: Path) -> None:
    for name in PICTURES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes((folder / "val" / name / "0.png").read_bytes())
    (tmp_path / "cat" / "1.png").write_text("no picture")
    done = convit("ablate", tmp_path, *MODEL, "--experiment", "position-embedding", "-q")
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "done, 1 of 3 images skipped: they could not be read and count in no metric" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--split", "nothing"], "has no split 'nothing'; it has test, val"),
        (["--split", "val", "--limit", "0"], "--limit"),
        (["--split", "val", "-o", "found.txt"], "does not select a format here; use one of .md, .json"),
        (["--split", "val", "--experiment", "heads"], "--experiment"),
        (["--split", "val", "--precision", "int8"], "--precision"),
        (["--split", "val", "--precision", "fastest"], "is not one of 'auto', 'fp32', 'bf16', 'fp16'"),
    ],
)
def test_wrong_input_is_one_line(convit: Command, folder: Path, options: list[str], words: str) -> None:
    convit("ablate", folder, *MODEL, *options).fails(words)


def test_a_model_without_gated_layers_is_refused(convit: Command, folder: Path, tmp_path: Path) -> None:
    from convit.model import ConViT, ConViTConfig
    from convit.weights import save_weights

    config = ConViTConfig(img_size=32, patch_size=8, embed_dim=4, depth=2, local_up_to_layer=0, num_classes=2)
    save_weights(tmp_path / "plain.safetensors", ConViT(config), {"classes": ["cat", "airplane"]})
    done = convit("ablate", folder / "val", "--weights", tmp_path / "plain.safetensors", "--device", "cpu")
    done.fails("no GPSA layers to change")
