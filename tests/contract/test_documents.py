"""What the documents tell a reader to type works: every snippet is run, page by page, and the site builds."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image
from skimage import data

import convit
from convit.cli import main
from convit.weights import WEIGHT_SETS, fetch_weights
from runtime.sources import write_runtime
from tests.serving.conftest import serving

ROOT = Path(__file__).parents[2]
NANO = "convit_nano_patch4_32.cifar10"
GENERATED = (
    "analysis",
    "data_sets",
    "evaluation",
    "exports",
    "finetuning",
    "identities",
    "probes",
    "reference",
    "search",
)
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in ROOT.glob("docs/*.md") if page.stem not in ("duplicates", "reliability")),
    *sorted(page for page in ROOT.glob("docs/*/*.md") if page.parent.name not in GENERATED),
]
# what a line begins with, and why it is not run here
NOT_RUN = {
    "make ": "runs this suite, or is run by CI",
    "torchrun ": "tests/evaluation/test_processes.py and tests/training/test_processes.py start processes",
    "convit train ": "takes the whole of CIFAR-10 or ImageNet; tests/training trains",
    "convit plot ": "draws a run of those",
    "convit evaluate imagenet-v2": "needs ImageNet-v2",
    "convit evaluate --compare a.json b.json  ": "compares the result of that; how_to/evaluate.md runs it on others",
    "convit benchmark --model convit_base": "takes minutes",
    "convit benchmark --model convit_small": "takes minutes",
    "convit benchmark --model convit_tiny --against timm:convit_tiny --mode": "takes minutes",
    "python benchmarks/": "takes minutes",
    "convit embed 's3://": "needs a bucket; tests/scale/test_object_store.py has one",
    "convit embed holiday/ --output vectors/ --engine ray": "takes half a minute; tests/scale/test_ray.py",
    "convit serve --engine ray": "takes half a minute; tests/serving/test_replicas.py",
    "export RAY_": "of a cluster, as the next two; tests/serving/test_replicas.py reads the file",
    "ray start ": "starts a cluster",
    "serve deploy ": "needs a cluster",
    "srun ": "needs SLURM; tests/training has a stand-in",
}
PORT = "8000"  # where the pages have the service; here it takes a free one
PHOTOGRAPHS = ("chelsea", "coffee", "rocket")
TAKES_MODEL = ("classify", "embed", "index", "search", "duplicates", "evaluate", "probe", "explain", "ablate")


class Snippet(NamedTuple):
    """A fenced block: its language and its lines."""

    language: str
    text: str


def _snippets(page: Path) -> list[Snippet]:
    found = re.findall(r"^```(bash|python)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [Snippet(*each) for each in found]


def _lines(snippet: Snippet) -> list[str]:
    return [line for line in snippet.text.replace("\\\n", " ").splitlines() if line.strip() and line[0] != "#"]


PAGES_WITH_SNIPPETS = [page for page in PAGES if _snippets(page)]


@pytest.fixture
def _desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which a reader may sit: photographs, labeled images, lists, a weight file."""
    monkeypatch.chdir(tmp_path)
    pictures = [Image.fromarray(getattr(data, name)()) for name in PHOTOGRAPHS]
    pictures[0].save("photo.jpg")
    Path("holiday/evening").mkdir(parents=True)
    for name, picture in zip(("beach.jpg", "cup.png", "evening/sky.jpg"), pictures, strict=True):
        picture.save(Path("holiday") / name)
    for folder, count in (("images", 8), ("val", 3), ("held-out", 3), ("held_out", 3)):
        for label, picture in (("cat", pictures[0]), ("airplane", pictures[2])):
            (Path(folder) / label).mkdir(parents=True)
            for number in range(count):
                side = 96 + 8 * number
                picture.crop((8 * number, 0, 8 * number + side, side)).save(f"{folder}/{label}/{number}.png")
    shutil.copytree("images", "train_images")
    rows = "".join(f"{each.relative_to('images')},{each.parent.name}\n" for each in Path("images").rglob("*.png"))
    Path("train.csv").write_text(f"image,label\n{rows}")
    for name, content in (
        ("photos.txt", "photo.jpg"),
        ("part-0.txt", "holiday/beach.jpg"),
        ("part-1.txt", "photo.jpg"),
    ):
        Path(name).write_text(f"{content}\n")
    shutil.copyfile(fetch_weights(WEIGHT_SETS[NANO]), "mine.safetensors")
    write_runtime(tmp_path / "runtime" / "convit_runtime")
    monkeypatch.syspath_prepend(tmp_path / "runtime")


def _bundled(text: str) -> str:
    """The same with weights that need no network."""
    return re.sub(r"convit_(tiny|small|base)\.fb_in1k", NANO, text)


def _run_line(line: str) -> None:
    """Run one line of a shell snippet, or make sure that it is one of those that are not run."""
    if line.startswith("pip install "):
        _check_extras(line)
        return
    if line.startswith(tuple(NOT_RUN)):
        return
    program, *arguments = shlex.split(_bundled(line), comments=True)
    if program == "convit-runtime":
        assert import_module("convit_runtime.cli").main(arguments) == 0, line
        return
    assert program == "convit", f"nobody runs this line: {line}"
    named = "--model" in arguments or "--weights" in arguments or "--compare" in arguments
    if arguments[0] in TAKES_MODEL and not named:
        arguments += ["--model", NANO]
    if arguments[0] == "finetune":
        arguments += ["--epochs", "1"]
    assert main(arguments) == 0, line


def _check_extras(line: str) -> None:
    folder = ROOT / "runtime" if "./runtime" in line else ROOT
    known = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"\[([a-z,-]+)\]", line):
        assert set(named.split(",")) <= set(known), line


@pytest.mark.slow
@pytest.mark.usefixtures("_desk")
@pytest.mark.parametrize("page", PAGES_WITH_SNIPPETS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_snippet_runs(page: Path) -> None:
    names: dict[str, Any] = {}
    with ExitStack() as services:
        for snippet in _snippets(page):
            if snippet.language == "python":
                text = _bundled(snippet.text).replace(PORT, names.get("port", PORT))
                exec(compile(text, str(page), "exec"), names)
                continue
            for line in _lines(snippet):
                if line.startswith("convit serve ") and not line.startswith(tuple(NOT_RUN)):
                    service = services.enter_context(serving(Path(), *shlex.split(line)[2:]))
                    names["port"] = service.url.rpartition(":")[2]
                else:
                    _run_line(line)


def test_a_line_is_left_out_only_where_there_is_one() -> None:
    lines = [
        line for page in PAGES for snippet in _snippets(page) if snippet.language == "bash" for line in _lines(snippet)
    ]
    unused = [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)]
    assert not unused


def test_pages_have_no_code_that_is_not_fenced() -> None:
    # an indented command would not be run
    found = [
        page.name for page in PAGES if re.search(r"^ {4}(convit|pip|import|python) ", page.read_text("utf-8"), re.M)
    ]
    assert not found


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    for name in ("docs", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("CONTRIBUTING.md", "zensical.toml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "src").symlink_to(ROOT / "src")
    environment = {**os.environ, "NO_COLOR": "1"}
    run: Callable[..., Any] = lambda *command: subprocess.run(  # noqa: E731
        [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run("docs/make_command_line.py").returncode == 0
    built = run("-m", "zensical", "build", "--strict")
    assert built.returncode == 0, re.sub(r"\x1b\[[0-9;]*m", "", built.stdout + built.stderr)[-3000:]
    assert "griffe:" not in built.stdout + built.stderr
    assert len(list(_links_outward(tmp_path / "build" / "site"))) == 0


def _links_outward(site: Path) -> Iterator[str]:
    """What a page would load from elsewhere."""
    for page in site.rglob("*.html"):
        yield from re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"?(https?://[^\" >]+)", page.read_text("utf-8"))


def test_the_reference_has_every_public_name() -> None:
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    assert [name for name in convit.__all__ if f"::: convit.{name}\n" not in pages] == ["data"]  # a page of its own
