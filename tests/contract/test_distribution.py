"""The package as others get it: sdist and wheel are built, and the wheel works where nothing else is installed."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

ROOT = Path(__file__).parents[2]
NANO = "convit_nano_patch4_32.cifar10"


def run_alone(*command: object, folder: Path) -> str:
    """What a program prints; it must end well. Nothing of this checkout or environment reaches it."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist and the wheel, which is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run_alone(sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", folder, ROOT, folder=folder)
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    inside = {name for name in zipfile.ZipFile(built[1]).namelist() if ".dist-info/" not in name}
    kept = [file for file in (ROOT / "src").rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert inside == {str(file.relative_to(ROOT / "src")) for file in kept if ".egg-info" not in str(file)}


@pytest.mark.slow
def test_the_sdist_holds_what_the_wheel_is_made_of(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/convit/__init__.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "build/", "runs/"))]


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_environment(built: tuple[Path, Path], tmp_path: Path) -> None:
    uv = (sys.executable, "-m", "uv")
    run_alone(*uv, "venv", "--quiet", "--python", sys.executable, "empty", folder=tmp_path)
    python = tmp_path / "empty" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    run_alone(*uv, "pip", "install", "--quiet", "--python", python, "-c", constraints, built[1], folder=tmp_path)
    Image.fromarray(data.chelsea()).save(tmp_path / "cat.jpg")
    printed = run_alone(python.with_name("convit"), "classify", "cat.jpg", "--model", NANO, folder=tmp_path)
    assert json.loads(printed)["predictions"][0]["label"] == "cat"
    where = run_alone(python, "-c", "import convit; print(convit.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path / "empty")
