"""Shapes in signatures are checked while the tests run, but not while one that is marked `compiled` does."""

import os

import pytest
import torch
from jaxtyping import TypeCheckError

from convit.model import attention

FLAT = torch.zeros(3, 4)  # without a batch


@pytest.mark.compiled
def test_what_is_compiled_is_as_it_is_written() -> None:
    assert attention.split_heads(FLAT, 2).shape == (3, 2, 2)


@pytest.mark.skipif(os.environ.get("CONVIT_CHECK_SHAPES") == "0", reason="shapes are not checked in this run")
def test_shapes_are_checked_in_every_other_test() -> None:
    with pytest.raises(TypeCheckError):
        attention.split_heads(FLAT, 2)
