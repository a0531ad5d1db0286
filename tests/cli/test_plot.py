"""`convit plot`: where the figure goes, what is printed, and what is refused."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Command = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    lines = [{"epoch": n, "train_loss": 1 / n, "val_loss": 2 / n, "val_top1": 10.0 * n, "lr": 0.1} for n in (1, 2)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_figure_of_a_run_lies_in_its_folder_and_is_made_anew(convit: Command, run: Path) -> None:
    for _ in range(2):
        done = convit("plot", run, terminal={"out"})
        assert (done.code, done.out, done.err) == (0, f"{run / 'plot.png'}\n", "")
    with Image.open(run / "plot.png") as image:
        assert image.format == "PNG"
    assert sorted(path.name for path in run.iterdir()) == ["log.jsonl", "plot.png"]
    assert convit("plot", run, "--quiet").out == ""


def test_a_named_output_is_kept_unless_told(convit: Command, run: Path, tmp_path: Path) -> None:
    output = tmp_path / "figure.svg"
    assert convit("plot", run, run, "-o", output).out == f'{{"path": "{output}"}}\n'
    before = output.read_bytes()
    again = convit("plot", run, "-o", output)
    assert (again.code, output.read_bytes()) == (2, before)
    assert "figure.svg: exists already" in again.err
    assert convit("plot", run, "-o", output, "--overwrite").code == 0


def test_several_runs_need_a_place(convit: Command, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "log.jsonl").write_text((run / "log.jsonl").read_text())
    convit("plot", run, other).fails("--output runs.png")
    assert convit("plot", run, other, "-o", tmp_path / "both.pdf").code == 0
    assert (tmp_path / "both.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("nowhere", [], ["there is no run", "nowhere", "--output"]),
        ("bare", [], ["no log.jsonl in", "bare"]),
        ("empty", [], ["log.jsonl is empty", "train at least one epoch"]),
        ("mine", ["-o", "plot.jpg"], ["plot.jpg", ".png, .svg, .pdf"]),
        ("mine", ["-o", "nowhere/plot.png"], ["there is no folder"]),
        ("mine", ["--overwite"], ["No such option: --overwite", "convit plot --help"]),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    convit: Command, run: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: list[str], words: list[str]
) -> None:
    monkeypatch.chdir(run.parent)
    for folder in ("bare", "empty"):
        Path(folder).mkdir()
    Path("empty", "log.jsonl").touch()
    convit("plot", name, *options).fails(*words)
    assert not Path("plot.png").exists()


def test_without_matplotlib_the_extra_is_named(convit: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("convit.training.p")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    convit("plot", run).fails("pip install 'convit[plot]'", code=1)


def test_neither_torch_nor_a_trainer_is_needed(run: Path) -> None:
    """A process of its own, in which importing either fails."""
    program = (
        "import sys; sys.modules['torch'] = sys.modules['lightning'] = None; from convit.cli import main; "
        f"sys.exit(main(['plot', {str(run)!r}, '--debug']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, json.dumps({"path": str(run / "plot.png")}) + "\n"), done.stderr
