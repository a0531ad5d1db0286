"""What a command loads to label or embed one photograph: most of its time is imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

UNNEEDED = {"torchvision", "torch._dynamo", "sympy", "triton", "pyarrow", "huggingface_hub", "rich", "timm"}
_PROGRAM = """
import json, sys
from convit.cli import main
code = main(sys.argv[1:])
print(json.dumps({"code": code, "loaded": list(sys.modules)}))
"""


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_one_photograph_loads_nothing_that_it_does_not_need(command: str, photos: Path, nano: Path) -> None:
    arguments = [sys.executable, "-c", _PROGRAM, command, str(photos / "cat.jpg"), "--weights", str(nano)]
    run = subprocess.run(arguments, capture_output=True, text=True, check=True)
    row, left = (json.loads(line) for line in run.stdout.splitlines())
    assert (row["error"], left["code"]) == (None, 0)
    assert "torch" in left["loaded"]
    assert UNNEEDED & set(left["loaded"]) <= UNNEEDED & _loaded_by_torch()


def _loaded_by_torch() -> set[str]:
    """What PyTorch imports itself: sympy up to 2.9, say."""
    program = "import json, sys, torch; print(json.dumps(list(sys.modules)))"
    return set(json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "{photos}/nothing", "--weights", "{nano}"), "there is no folder"),
        (("evaluate", "{photos}", "--weights", "{photos}/no.safetensors"), "there is no weight file"),
        (("explain", "{photos}/no.jpg", "-o", "{photos}/x.png"), "no such file"),
        (("explain", "{photos}/cat.jpg", "-o", "{photos}/x.png", "--weights", "{photos}/no.pth"), "no weight file"),
        (("train", "{recipe}", "--data", "{photos}"), "there is no folder {photos}/nothing"),
        (("train", "{recipe}", "--data", "{photos}", "--set", "data.train=a-*.parquet"), "no Parquet file at {photos}"),
        (("finetune", "{photos}/a.parquet"), "no Parquet file at {photos}/a.parquet"),
    ],
)
def test_what_is_not_there_is_said_before_torch_is_imported(
    arguments: tuple[str, ...], message: str, photos: Path, nano: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: a\nmodel: {architecture: convit_tiny}\ndata: {name: a, train: nothing}\n")
    places = {"photos": photos, "nano": nano, "recipe": recipe}
    given = [argument.format(**places) for argument in arguments]
    run = subprocess.run([sys.executable, "-c", _PROGRAM, *given], capture_output=True, text=True, check=True)
    left = json.loads(run.stdout.splitlines()[-1])
    assert left["code"] == 2
    assert message.format(**places) in run.stderr
    assert not {"torch", "matplotlib.pyplot"} & set(left["loaded"])


_UNTIL_TORCH = """
import os, sys
from convit.cli import main

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Finder())
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("command", "given", "expected"),
    [("train", None, "passive"), ("finetune", None, "passive"), ("train", "active", "active"), ("embed", None, "None")],
)
def test_threads_wait_passively_in_training_unless_asked_otherwise(
    command: str, given: str | None, expected: str, photos: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"name: a\nmodel: {{architecture: convit_tiny}}\ndata: {{name: a, train: {photos}}}\n")
    argument = recipe if command == "train" else photos
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    command_line = [sys.executable, "-c", _UNTIL_TORCH, command, str(argument)]
    run = subprocess.run(command_line, capture_output=True, text=True, env=environment, cwd=tmp_path, check=True)
    assert run.stdout == f"{expected}\n", run.stderr
