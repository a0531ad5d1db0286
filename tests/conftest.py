"""Shapes in signatures are checked while the tests run; not with CONVIT_CHECK_SHAPES=0, for `torch.compile`."""

import os
from collections.abc import Iterator

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
