"""Shapes in signatures are checked while the tests run; not with CONVIT_CHECK_SHAPES=0, for `torch.compile`."""

import os

import pytest
import torch

if os.environ.get("CONVIT_CHECK_SHAPES", "1") == "1":
    from jaxtyping import install_import_hook

    shaped = ("attention", "convit", "features", "layers", "plain", "positional", "precision")
    install_import_hook([f"convit.model.{name}" for name in shaped], "beartype.beartype")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
