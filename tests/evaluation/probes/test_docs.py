"""The kept figures of the bundled model are of the weights that ship."""

import json
from pathlib import Path

import pytest

from convit.evaluation.weights_used import fingerprint_of

DOCS = Path(__file__).parents[3] / "docs" / "probes"


@pytest.mark.parametrize("name", ["cifar10", "tiny-imagenet"])
def test_they_belong_to_the_weights_that_ship(name: str) -> None:
    found = json.loads((DOCS / f"{name}.json").read_text())
    assert found["fingerprint"] == fingerprint_of(found["model"], None)
    assert found["unreadable"] == {}
    assert (DOCS / f"{name}.png").read_bytes().startswith(b"\x89PNG")
