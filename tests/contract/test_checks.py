"""What is wrong with paths, names and options is said before anything heavy is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

HEAVY = {"torch", "lightning", "lancedb", "sklearn", "scipy", "matplotlib", "huggingface_hub"}
_PROGRAM = """
import json, sys
from convit.cli import main
print(json.dumps([main(sys.argv[1:]), sorted(set(sys.modules) & set({heavy}))]))
"""
SOME = {"explain": ("-o", "out.png"), "index": ("--db", "db"), "search": ("--db", "db")}
WORD = {
    "nowhere": "nowhere",
    "--weights": "there is no weight file nowhere",
    "--model": "there is no model 'convit_bas'",
}


def _fails_early(folder: Path, *arguments: str) -> str:
    program = _PROGRAM.format(heavy=sorted(HEAVY))
    command = [sys.executable, "-c", program, *arguments]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    code, loaded = json.loads(run.stdout.splitlines()[-1])
    assert (code, loaded) == (2, []), run.stderr
    return run.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of one image each, an image beside them, and a recipe whose run has begun."""
    place = tmp_path_factory.mktemp("place")
    for name in ("data/cat/0.png", "data/dog/0.png", "0.png"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(place / name)
    (place / "recipe.yaml").write_text(
        "name: again\nmodel: {architecture: convit_nano_patch4_32}\ndata: {name: data, train: data}\n"
    )
    (place / "runs/again/checkpoints").mkdir(parents=True)
    (place / "runs/again/checkpoints/step-000000001.ckpt").touch()
    (place / "runs/taken").mkdir()
    (place / "runs/taken/weights.safetensors").touch()
    return place


@pytest.mark.parametrize(
    "command", ["classify", "embed", "evaluate", "probe", "ablate", "duplicates", "index", "explain"]
)
@pytest.mark.parametrize("wrong", [("nowhere",), ("--weights", "nowhere"), ("--model", "convit_bas")], ids=" ".join)
def test_paths_weights_and_models(command: str, wrong: tuple[str, ...], folder: Path) -> None:
    source = () if wrong == ("nowhere",) else ("0.png",) if command == "explain" else ("data",)
    said = _fails_early(folder, command, *source, *wrong, *SOME.get(command, ()))
    assert WORD[wrong[0]] in said


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("search", "0.png", "--db", "nowhere"), "nowhere: there is no index"),
        (("duplicates", "--db", "nowhere"), "nowhere: there is no index"),
        (("index", "data", "--db", "data"), "data holds other files and no index"),
        (("finetune", "nowhere"), "there is no folder nowhere"),
        (("finetune", "data", "-o", "data/run"), "lies inside the folder of images"),
        (("train", "nowhere.yaml"), "there is no recipe nowhere.yaml"),
        (("classify", "data", "-o", "nowhere/out.csv"), "there is no folder"),
        (("embed", "data", "--kind", "best"), "kind is 'best'"),
        (("evaluate", "data", "-o", "out.xyz"), "'.xyz' does not select a format here"),
        (("benchmark", "--weights", "nowhere"), "there is no weight file nowhere"),
        (("benchmark", "--model", "convit_bas"), "there is no model 'convit_bas'"),
        (("benchmark", "--device", "gpu"), "device is 'gpu'"),
        (("benchmark", "--batch", "none"), "--batch is 'none'"),
        (("benchmark", "-o", "0.png"), "0.png"),
        (("evaluate", "data", "--device", "cuda:x"), "device is 'cuda:x'"),
        (("explain", "0.png", "-o", "x.png", "--device", "tpu"), "device is 'tpu'"),
        (("train", "recipe.yaml"), "runs/again holds a run already (step-000000001.ckpt)"),
        (("train", "recipe.yaml", "-o", "runs/taken"), "runs/taken holds a run already (weights.safetensors)"),
        (("finetune", "data", "-o", "runs/taken"), "runs/taken holds a run already (weights.safetensors)"),
        (("train", "recipe.yaml", "-o", "0.png"), "0.png is a file, but a run needs a folder"),
        (("train", "recipe.yaml", "--resume", "-o", "nowhere"), "there is no run in nowhere"),
        (("plot", "nowhere"), "there is no run nowhere"),
        (("plot", "data"), "there is no log.jsonl in data"),
        (("plot", "data", "-o", "x.gif"), "x.gif ends in none of .png, .svg, .pdf"),
        (("evaluate", "--compare", "nowhere.json", "0.png"), "nowhere.json"),
        (("evaluate", "--compare", "recipe.yaml", "0.png"), "recipe.yaml is not valid JSON"),
        (("info", "convit_bas"), "there is no model 'convit_bas'"),
    ],
)
def test_other_mistakes(arguments: tuple[str, ...], word: str, folder: Path) -> None:
    assert word in _fails_early(folder, *arguments)
    assert sorted(path.name for path in folder.iterdir()) == ["0.png", "data", "recipe.yaml", "runs"]


@pytest.mark.parametrize(
    "command", ["classify", "embed", "evaluate", "probe", "ablate", "duplicates", "index", "finetune"]
)
def test_the_first_word_comes_before_heavy_imports(command: str, folder: Path) -> None:
    """The commands say what they read; whatever is imported until then is light."""
    program = """
import json, sys
from convit.cli import errors, main
class Heard(BaseException): pass
def listen(*sources):
    print(json.dumps([list(map(str, sources)), sorted(set(sys.modules) & set({heavy}))]))
    raise Heard
errors.say_reading = listen
try: main(sys.argv[1:])
except Heard: pass
"""
    more = SOME.get(command, ())
    run = subprocess.run(
        [sys.executable, "-c", program.format(heavy=sorted(HEAVY)), command, "data", *more],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    sources, loaded = json.loads(run.stdout)
    assert sources[0] == "data"
    assert loaded == []
