"""The main job on a fresh machine without a network: the weights in the package, through the installed command."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convit import VARIANTS

Command = Callable[..., Any]
MODEL = "convit_nano_patch4_32.cifar10"
SHOWN = "convit_mini_patch8_64.tiny_imagenet"
DIM = VARIANTS["convit_mini_patch8_64"].config.dim
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What `make demo` prints, and its folder; the hub and the caches are out of reach."""
    folder = tmp_path_factory.mktemp("demo") / "photos"
    nowhere = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "XDG_CACHE_HOME": str(folder / "cache")}
    command = [sys.executable, EXAMPLES / "demo.py", folder]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | nowhere)
    assert run.returncode == 0, run.stderr
    return run.stdout, folder


def test_the_demo_labels_the_photographs(demo: tuple[str, Path]) -> None:
    shown, folder = demo
    assert f"$ convit classify {folder} --model {SHOWN} --top-k 3 --format table" in shown
    for name in ("cat.jpg", "coffee.jpg", "uniform.jpg"):
        assert (folder / name).is_file()
        assert name in shown


def test_the_demo_embeds_the_photographs(demo: tuple[str, Path]) -> None:
    shown, folder = demo
    with np.load(folder / "vectors.npz") as stored:
        assert stored["embeddings"].shape == (3, DIM)
        np.testing.assert_allclose(np.linalg.norm(stored["embeddings"], axis=1), 1, atol=1e-5)
    assert f"3 vectors of {DIM} numbers" in shown


def test_the_readme_says_what_is_seen_in_the_photographs_of_the_demo(convit: Command) -> None:
    run = convit("classify", EXAMPLES / "photos", "--model", SHOWN, "--top-k", "3")
    assert run.code == 0
    labels = {Path(row["path"]).stem: [each["label"] for each in row["predictions"]] for row in run.rows}
    assert labels["coffee"][0] == "espresso"
    said = " ".join((EXAMPLES.parent / "README.md").read_text("utf-8").split())
    assert f"recognizes the {labels['cat'][0]} and the espresso" in said
    assert f"takes the military uniform for an {labels['uniform'][0]}" in said


def test_the_cat_is_a_cat(convit: Command, photos: Path) -> None:
    run = convit("classify", photos / "cat.jpg", "--model", MODEL)
    assert run.code == 0
    assert run.rows[0]["predictions"][0]["label"] == "cat"


@pytest.mark.slow
def test_the_cat_is_a_cat_in_8_bits(convit_process: Command, photos: Path) -> None:
    pictures = [photos / "cat.jpg", photos / "coffee.png"]
    run = convit_process("classify", *pictures, "--model", MODEL, "--precision", "int8")
    assert run.code == 0
    labels = {Path(row["path"]).name: row["predictions"][0]["label"] for row in run.rows}
    assert labels["cat.jpg"] == "cat"
    run = convit_process("embed", *pictures, "--model", MODEL, "--precision", "int8", "--kind", "layer:2")
    assert run.code == 2
    assert "an int8 model on a CPU gives no intermediate layers" in run.err


@pytest.mark.slow
def test_compiled_labels_are_the_same(convit_process: Command, photos: Path) -> None:
    pictures = [photos / "cat.jpg", photos / "coffee.png"]
    compiled, plain = (
        convit_process("classify", *pictures, "--model", MODEL, *options) for options in (("--compile",), ())
    )
    assert compiled.code == plain.code == 0
    for one, other in zip(compiled.rows, plain.rows, strict=True):
        assert one["predictions"][0]["label"] == other["predictions"][0]["label"]
        assert one["predictions"][0]["score"] == pytest.approx(other["predictions"][0]["score"], rel=1e-3)


def test_the_installed_script_classifies(photos: Path) -> None:
    script = Path(sys.executable).with_name("convit")
    command = [script, "classify", photos, "--model", MODEL, "--top-k", "1", "--format", "csv"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[0] == "path,label_1,index_1,score_1,error"
    assert len(run.stdout.splitlines()) == 5
    assert run.stderr.startswith("convit: 4 images in ")


@pytest.mark.parametrize(("model", "data"), [(MODEL, "CIFAR-10"), (SHOWN, "Tiny ImageNet-200")])
def test_info_says_where_they_come_from(convit: Command, model: str, data: str) -> None:
    run = convit("info", model)
    assert run.code == 0
    assert "bundled" in run.out
    assert data in run.out
    assert f"{model}.safetensors" in run.out
