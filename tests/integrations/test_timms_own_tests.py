"""timm's own tests of its ConViT, run on our class: fetched from the package registry, which must be reachable."""

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import timm
from safetensors.torch import save_file

from convit.model import VARIANTS, ConViT

SOURCES = Path(__file__).parents[2] / "src"
SIZES = ("tiny", "small", "base")
# a model's source is refused by TorchScript, in one line that names torch.export and torch.jit.trace
REFUSED = {
    *(f"test_model_forward_torchscript[1-convit_{size}]" for size in SIZES),
    "test_pruned_features_torchscript[convit_tiny]",
}
QUICK = "convit_tiny and not contract and not load_pretrained"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests of timm's source distribution, of the version installed, without timm itself."""
    folder = tmp_path_factory.mktemp("timm")
    wanted = ["--no-deps", "--no-binary", "timm", f"timm=={timm.__version__}", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the package registry did not give timm's tests:\n{done.stderr}"
    (archive,) = folder.glob("timm-*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, [each for each in packed if "/tests/" in each.name], filter="data")
    return next(folder.glob("timm-*/tests"))


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache that holds the files that timm asks for, with fresh weights."""
    folder = tmp_path_factory.mktemp("hub")
    for size in SIZES:
        repo = folder / f"models--timm--convit_{size}.fb_in1k"
        snapshot = repo / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(snapshot.name)
        save_file(ConViT(VARIANTS[f"convit_{size}"].config).state_dict(), snapshot / "model.safetensors")
    return folder


def test_timms_own_tests_of_the_small_model(theirs: Path) -> None:
    outcomes = _outcomes(theirs, QUICK)
    assert len(outcomes) == 11
    _check(outcomes)


@pytest.mark.soak
def test_all_of_timms_own_tests(theirs: Path, hub_cache: Path) -> None:
    outcomes = _outcomes(theirs, "convit", HF_HUB_CACHE=str(hub_cache), HF_HUB_OFFLINE="1")
    assert len(outcomes) == 36
    _check(outcomes)


def _outcomes(theirs: Path, selection: str, **environment: str) -> dict[str, str]:
    """What became of each test: "passed", "skipped" or the message of its failure."""
    report = theirs / "report.xml"
    environment["PYTHONPATH"] = os.pathsep.join((str(SOURCES), os.environ.get("PYTHONPATH", "")))
    options = ["-p", "convit.integrations.timm", "-p", "no:cacheprovider", f"--junitxml={report}", "-c", os.devnull]
    command = [sys.executable, "-m", "pytest", *options, "--rootdir", str(theirs), "-k", selection, "test_models.py"]
    subprocess.run(command, cwd=theirs, env=os.environ | environment, capture_output=True, check=False)
    outcomes: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        failures = [part.attrib["message"] for part in case if part.tag in ("failure", "error")]
        is_skipped = any(part.tag == "skipped" for part in case)
        outcomes[case.attrib["name"]] = failures[0] if failures else "skipped" if is_skipped else "passed"
    return outcomes


def _check(outcomes: dict[str, str]) -> None:
    failed = {name: message for name, message in outcomes.items() if message != "passed"}
    assert failed.keys() == REFUSED & outcomes.keys(), failed
    for message in failed.values():
        assert re.match(r"TypeError: TorchScript can't .* torch\.export\.export.* torch\.jit\.trace", message), message
