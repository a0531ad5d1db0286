"""Shapes in signatures are checked while tests run, but for those marked `compiled`; not with CONVIT_CHECK_SHAPES=0."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from skimage import data

SOURCES = Path(__file__).parents[1] / "src"
SHAPED = [  # every module that annotates shapes; but not kernels, whose signatures PyTorch reads
    ".".join(file.relative_to(SOURCES).with_suffix("").parts)
    for file in sorted(SOURCES.rglob("*.py"))
    if "from jaxtyping import" in file.read_text("utf-8") and file.parent.name != "kernels"
]

if os.environ.get("CONVIT_CHECK_SHAPES", "1") == "1":
    from jaxtyping import install_import_hook

    from tests import shapes

    sys.modules["convit_shapes"] = shapes  # the hook imports by name, and pytest exchanges the package `tests`
    install_import_hook(SHAPED, "convit_shapes.check_shapes")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
        """Run a test marked `compiled`, and the fixtures that it is the first to use, without the checks."""
        with shapes.unchecked() if item.get_closest_marker("compiled") else nullcontext():
            return (yield)


def pytest_configure() -> None:
    """Let commands begin with no signal ignored, as a shell's background jobs and `nohup` hand them down.

    A handler is not inherited by another program, as SIG_IGN is; one that does nothing keeps pytest running.
    """
    handlers = {"SIGINT": signal.default_int_handler, "SIGTERM": _do_nothing, "SIGHUP": _do_nothing}
    for name, handler in handlers.items():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def _do_nothing(number: int, frame: object) -> None:
    del number, frame


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """Lightning leaves the port of its processes behind, on which those of another test would wait for each other."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def in_browser(tmp_path: Path) -> Callable[[Path], str]:
    """Opens a page in a browser, which must have nothing to complain of, and gives the document after its scripts."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs a browser: chromium")

    def show(page: Path) -> str:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        command = [browser, *options, f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom", page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        assert "CONSOLE" not in done.stderr
        return done.stdout

    return show


@pytest.fixture
def triton_interpreter() -> Iterator[None]:
    """Triton's interpreter for one test, whatever was imported before."""
    triton = pytest.importorskip("triton")
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    core = dict(vars(triton.language.core))
    with triton.knobs.runtime.scope(), pytest.MonkeyPatch.context() as patch:
        triton.knobs.runtime.interpret = True
        for name in ("max", "sum"):  # written in Triton themselves, and decorated when it was imported
            function = getattr(triton.language, name)
            if isinstance(function, JITFunction):
                patch.setattr(triton.language, name, InterpretedFunction(function.fn))
        yield
    vars(triton.language.core).update(core)  # functions called from a kernel leave their marks there


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Any]:
    """A fresh three-block ConViT for 32 x 32 pictures with ten named classes, the same each time."""
    from convit.model import ConViT, ConViTConfig  # behind the import hook

    def make(**changes: object) -> Any:
        torch.manual_seed(0)
        options = {
            "embed_dim": 8,
            "img_size": 32,
            "patch_size": 8,
            "depth": 3,
            "local_up_to_layer": 2,
            "num_classes": 10,
        } | changes
        model = ConViT(ConViTConfig(**options))
        with torch.no_grad():  # fresh heads give nearly the same for every picture
            for parameter in model.parameters():
                parameter.mul_(6.0)
        model.pretrained_cfg = {
            "architecture": "convit_test",
            "input_size": (3, 32, 32),
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": (0.5, 0.5, 0.5),
            "std": (0.25, 0.25, 0.25),
            "num_classes": 10,
            "label_names": tuple("abcdefghij"),
        }
        return model.eval()

    return make


@pytest.fixture(scope="session")
def cat() -> Image.Image:
    """A cat, 451 x 300 pixels."""
    return Image.fromarray(data.chelsea())


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five photographs as JPEG files."""
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{name}.jpg" for name in ("chelsea", "coffee", "rocket", "astronaut", "camera")]
    for path in paths:
        Image.fromarray(getattr(data, path.stem)()).resize((180, 130)).save(path)
    return paths


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the smallest variant, random, with the names of CIFAR-10's classes."""
    from convit.weights import class_names, create_model, save_weights  # behind the import hook

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model("convit_nano_patch4_32")
    file = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    save_weights(file, model, {"classes": list(class_names("cifar10"))})
    return file
