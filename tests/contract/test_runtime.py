"""`convit-runtime`: the same files without torch, installed by itself, giving the same pixels, rows and messages."""

import ast
import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

import convit
from convit.cli import main
from convit.export import ExportSettings, export_model
from convit.images import ImageError, open_image
from convit.transforms import EvaluationTransform, TransformSettings
from runtime.sources import runtime_files, walk_at_run_time, write_runtime
from tests.contract.test_distribution import NANO, ROOT, run_alone

BLOCKED = ("torch", "torchvision", "convit", "jaxtyping", "lazy_loader", "beartype", "pyarrow", "rich")
AT_ONCE = {"numpy", "PIL", "typer"}  # imported with a module
WHEN_NEEDED = {"onnxruntime", "openvino", "executorch", "ai_edge_litert", "pyarrow", "rich", "torch"}
WHEN_NEEDED |= {"pillow_heif", "pillow_jxl"}
PROJECT = tomllib.loads((ROOT / "runtime" / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder from which `convit_runtime` can be imported."""
    folder = tmp_path_factory.mktemp("tree")
    write_runtime(folder / "convit_runtime")
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = convit.create_model(NANO, pretrained=True)
    folder = tmp_path_factory.mktemp("exported") / "mine"
    export_model(model, folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of many kinds, and two files that are none."""
    folder = tmp_path_factory.mktemp("photos")
    cat, rocket = Image.fromarray(data.chelsea()), Image.fromarray(data.rocket())
    turned = Image.Exif()
    turned[0x0112] = 6
    cat.save(folder / "cat.jpg")
    cat.save(folder / "turned.jpg", exif=turned)
    rocket.convert("CMYK").save(folder / "cmyk.jpg")
    rocket.convert("RGBA").rotate(30).save(folder / "clear.png")
    Image.fromarray((np.asarray(rocket.convert("L")).astype(np.uint16)) * 257).save(folder / "deep.png")
    rocket.quantize(16).save(folder / "palette.gif")
    (folder / "cut.jpg").write_bytes((folder / "cat.jpg").read_bytes()[:-5000])
    (folder / "empty.jpg").write_bytes(b"")
    return folder


def _imported(nodes: list[ast.AST]) -> set[str]:
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in found} - set(sys.stdlib_module_names) - {"convit_runtime"}


def test_imports_are_what_it_depends_on() -> None:
    at_once, all_of_them = set[str](), set[str]()
    for text in runtime_files().values():
        nodes = list(walk_at_run_time(ast.parse(text)))
        inside = {id(each) for node in nodes if isinstance(node, ast.FunctionDef) for each in ast.walk(node)}
        all_of_them |= _imported(nodes)
        at_once |= _imported([node for node in nodes if id(node) not in inside])
    assert at_once == AT_ONCE
    assert all_of_them - AT_ONCE <= WHEN_NEEDED
    assert {each.split(">")[0] for each in PROJECT["dependencies"]} == {"numpy", "pillow", "onnxruntime", "typer"}


@pytest.mark.parametrize("package", ["convit_runtime", "convit"])
def test_no_module_of_it_imports_torch(package: str, tree: Path) -> None:
    """Neither there nor where its files come from: the rooms that it needs stay free of torch."""
    own = {str(file.relative_to(ROOT / "runtime" / "own")) for file in (ROOT / "runtime" / "own").rglob("*.py")}
    files = [
        name for name in runtime_files() if name.endswith(".py") and (package == "convit_runtime" or name not in own)
    ]
    names = [".".join((package, *Path(name).with_suffix("").parts)).removesuffix(".__init__") for name in files]
    blocked = [name for name in BLOCKED if package == "convit_runtime" or name.startswith("torch")]
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked}))\nfor name in {names}: __import__(name)"
    program += "\nprint(len(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": f"{tree}:{ROOT / 'src'}"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(names) > 30


def test_both_distributions_have_one_version() -> None:
    assert PROJECT["version"] == convit.__version__
    assert f'__version__ = "{convit.__version__}"' in (ROOT / "runtime" / "own" / "__init__.py").read_text("utf-8")


def test_without_a_folder_it_says_what_it_needs(tree: Path) -> None:
    for arguments in (["classify", "a.jpg"], ["embed", "a.jpg", "--model", "convit_tiny"]):
        command = [sys.executable, "-m", "convit_runtime", *arguments]
        done = subprocess.run(command, env={"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("convit-runtime: error: ")
        assert done.stderr.count("\n") == 1


BAD_INPUT = (
    ("classify",),
    ("classify", "{photos}", "--nope"),
    ("classify", "{photos}", "--top-k", "0", "--model", "{model}"),
    ("classify", "{photos}/cat.jpg", "--model", "{model}", "--img-size", "64"),
    ("classify", "{photos}/cat.jpg", "--model", "{model}", "--img-size", "x"),
    ("classify", "{photos}/none.jpg", "--model", "{model}"),
    ("classify", "{photos}/empty.jpg", "--model", "{model}"),
    ("classify", "{photos}/cat.jpg", "--model", "{model}", "-o", "{photos}/cat.jpg"),
    ("classify", "{photos}/cat.jpg", "--model", "{model}", "--format", "npz"),
    ("classify", "{photos}/cat.jpg", "--model", "{damaged}"),
    ("embed", "{photos}/cat.jpg", "--model", "{model}", "--kind", "nope"),
    ("embed", "{photos}/cat.jpg", "--model", "{model}", "--kind", "layer:1"),
    ("clasify", "{photos}"),
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with nothing but the runtime's wheel and what that depends on."""
    folder = tmp_path_factory.mktemp("alone")
    uv = (sys.executable, "-m", "uv")
    run_alone(*uv, "build", "--quiet", "--out-dir", folder, ROOT / "runtime", folder=folder)
    run_alone(*uv, "venv", "--quiet", "--python", sys.executable, "empty", folder=folder)
    python = folder / "empty" / "bin" / "python"
    # of the pinned packages all but typer, whose newest the runtime does not take
    pinned = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if "typer" not in line]
    (folder / "constraints.txt").write_text("\n".join(pinned))
    wheel = next(folder.glob("*.whl"))
    run_alone(*uv, "pip", "install", "--quiet", "--python", python, "-c", "constraints.txt", wheel, folder=folder)
    return python


_PIXELS = """
import hashlib, json, sys
from convit_runtime.images.formats import ImageError
from convit_runtime.images.opening import open_image
from convit_runtime.transforms.evaluation import EvaluationTransform
from convit_runtime.transforms.settings import TransformSettings
def pixels(path, **settings):
    try:
        made = EvaluationTransform(TransformSettings(**settings)).to_array(open_image(path))
    except ImageError as error:
        return str(error)
    return hashlib.sha256(made.tobytes()).hexdigest()
paths, settings = map(json.loads, sys.argv[1:])
print(json.dumps([pixels(path, **each) for path in paths for each in settings]))
"""


@pytest.mark.slow
def test_the_wheel_gives_what_convit_gives(alone: Path, exported: Path, photos: Path, tmp_path: Path) -> None:
    listed = run_alone(sys.executable, "-m", "uv", "pip", "list", "--python", alone, folder=tmp_path)
    assert not {"torch", "convit", "pydantic"} & set(listed.split())
    for command in ("classify", "embed"):
        mine = _both(command, photos, alone, exported, tmp_path)
        for ours, theirs in zip(*mine, strict=True):
            assert (ours["path"], ours["error"]) == (theirs["path"], theirs["error"])
            assert _numbers(ours) == pytest.approx(_numbers(theirs), abs=1e-5)


def _both(command: str, photos: Path, alone: Path, model: Path, folder: Path) -> list[list[dict[str, object]]]:
    """The rows of convit and of the runtime, both of which leave with 3."""
    found: list[list[dict[str, object]]] = []
    for program in ([sys.executable, "-m", "convit"], [alone.with_name("convit-runtime")]):
        given = [*map(str, program), command, str(photos), "--model", str(model), "-q"]
        done = subprocess.run(given, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 3, done.stderr
        found.append([json.loads(line) for line in done.stdout.splitlines()])
    return found


def _numbers(row: dict[str, object]) -> list[float]:
    if "embedding" in row:
        return list(row["embedding"] or [])
    return [number for each in row["predictions"] or [] for number in (each["index"], each["score"])]


@pytest.mark.slow
def test_pixels_are_equal_to_the_bit(alone: Path, photos: Path, tmp_path: Path) -> None:
    settings = [{}, {"input_size": [3, 96, 160], "crop_mode": "border"}, {"interpolation": "lanczos", "crop_pct": 1.0}]
    paths = sorted(map(str, photos.iterdir()))
    found = json.loads(run_alone(alone, "-c", _PIXELS, json.dumps(paths), json.dumps(settings), folder=tmp_path))

    def pixels(path: str, **given: object) -> str:
        try:
            made = EvaluationTransform(TransformSettings(**given)).to_array(open_image(path))
        except ImageError as error:
            return str(error)
        return hashlib.sha256(made.tobytes()).hexdigest()

    assert found == [pixels(path, **each) for path in paths for each in settings]
    assert len(set(found)) > 15


@pytest.mark.slow
@pytest.mark.parametrize("arguments", BAD_INPUT, ids=" ".join)
def test_messages_and_exit_codes_are_convits(
    arguments: tuple[str, ...],
    alone: Path,
    exported: Path,
    photos: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text('{"export": 1}')
    given = [each.format(photos=photos, model=exported, damaged=damaged) for each in arguments]
    monkeypatch.chdir(tmp_path)
    code = main(given)
    ours = capfd.readouterr()
    done = subprocess.run([alone.with_name("convit-runtime"), *given], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, ours.out)
    assert code in (1, 2, 3)
    if "--help" in ours.err:  # options and commands that are not there cannot be suggested; the words are typer's
        assert ("--help" in done.stderr, done.stderr.count("\n")) == (True, 1)
        assert done.stderr.startswith("convit-runtime: error: ")
    else:
        assert done.stderr.replace("convit-runtime", "convit") == ours.err


@pytest.mark.slow
def test_openvino_alone_suffices(alone: Path, exported: Path, photos: Path, tmp_path: Path) -> None:
    """In an environment without ONNX Runtime, which then is missed by name where a folder needs it."""
    export_model(convit.create_model(NANO, pretrained=True), tmp_path / "mine", ExportSettings("openvino"))
    uv, python = (sys.executable, "-m", "uv"), tmp_path / "empty" / "bin" / "python"
    run_alone(*uv, "venv", "--quiet", "--python", sys.executable, "empty", folder=tmp_path)
    install = (*uv, "pip", "install", "--quiet", "--python", python, "-c", alone.parents[2] / "constraints.txt")
    wheel = next(alone.parents[2].glob("*.whl"))
    run_alone(*install, "--no-deps", wheel, folder=tmp_path)
    run_alone(
        *install,
        "numpy",
        "pillow",
        "openvino",
        *(each for each in PROJECT["dependencies"] if "typer" in each),
        folder=tmp_path,
    )
    program = python.with_name("convit-runtime")
    ours = json.loads(run_alone(program, "classify", photos / "cat.jpg", "--model", "mine", folder=tmp_path))
    theirs = convit.Classifier(NANO)(photos / "cat.jpg")
    assert [each["label"] for each in ours["predictions"]] == [each.label for each in theirs]
    assert _numbers(ours)[1::2] == pytest.approx([each.score for each in theirs], abs=1e-5)
    assert "(openvino " in run_alone(program, "--version", folder=tmp_path)
    given = [program, "classify", photos / "cat.jpg", "--model", exported]
    done = subprocess.run(list(map(str, given)), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "model.onnx needs the package onnxruntime; pip install onnxruntime" in done.stderr


@pytest.mark.slow
def test_python_and_installation(alone: Path, exported: Path, photos: Path, tmp_path: Path) -> None:
    program = (
        "from convit_runtime import Classifier, Embedder; import sys\n"
        f"print(Classifier({str(exported)!r})({str(photos / 'cat.jpg')!r})[0].label)\n"
        f"print(Embedder({str(exported)!r}, normalize=True)([{str(photos / 'cat.jpg')!r}]).shape)"
    )
    assert run_alone(alone, "-c", program, folder=tmp_path).splitlines() == ["cat", "(1, 108)"]
    assert "convit-runtime 0.1.0 (onnxruntime " in run_alone(
        alone.with_name("convit-runtime"), "--version", folder=tmp_path
    )
    packages = alone.parents[1] / "lib"
    files = [file for file in packages.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert sum(file.stat().st_size for file in files) <= 160 * 2**20
