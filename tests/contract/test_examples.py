"""Every example runs as its first line says, and fits on a screen."""

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from PIL import Image
from skimage import data

EXAMPLES = Path(__file__).parents[2] / "examples"
NANO = "convit_nano_patch4_32.cifar10"
# what each is called with, and what it must print
CALLS = {
    "label.py": (("holiday",), "cat.jpg: cat ("),
    "embed.py": (("holiday",), "cosine similarity 1.000"),
    "search.py": (("holiday", "holiday/cat.jpg"), "1.000  "),
    "finetune.py": (("images", "runs/mine", "--epochs", "1"), "top-1 on validation images: "),
    "as_timm.py": (("holiday/cat.jpg",), "  cat\n"),
    "transformers_pipeline.py": (("holiday/cat.jpg", "my-model"), "  cat\n"),
    "lora.py": (("images", "my-model", "--epochs", "1"), "epoch 1: loss "),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    cat, rocket = Image.fromarray(data.chelsea()), Image.fromarray(data.rocket())
    (tmp_path / "holiday").mkdir()
    cat.save(tmp_path / "holiday" / "cat.jpg")
    cat.save(tmp_path / "holiday" / "copy.jpg")
    rocket.save(tmp_path / "holiday" / "rocket.jpg")
    for label, picture in (("cat", cat), ("rocket", rocket)):
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(8):
            picture.crop((10 * number, 0, 10 * number + 90, 90)).save(tmp_path / "images" / label / f"{number}.png")
    arguments, expected = CALLS[name]
    command = [sys.executable, EXAMPLES / name, *arguments, "--model", NANO]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert expected in done.stdout


@pytest.mark.slow
def test_the_notebook_runs_and_is_kept_without_results() -> None:
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    found = [output for cell in code for output in cell.outputs]
    assert "coffee, espresso" in found[0].text
    assert [output.output_type for output in found[1:]] == ["execute_result", "display_data", "display_data"]


def test_every_example_is_run_and_short() -> None:
    found = {file.name: file.read_text("utf-8").count("\n") for file in EXAMPLES.glob("*.py")}
    assert set(found) == {*CALLS, "demo.py"}
    assert max(lines for name, lines in found.items() if name != "demo.py") < 40
