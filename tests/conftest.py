"""Shapes in signatures are checked while the tests run; not with CONVIT_CHECK_SHAPES=0, for `torch.compile`."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

if os.environ.get("CONVIT_CHECK_SHAPES", "1") == "1":
    from jaxtyping import install_import_hook

    shaped = ("attention", "convit", "features", "layers", "plain", "positional", "precision")
    install_import_hook([f"convit.model.{name}" for name in shaped], "beartype.beartype")


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
