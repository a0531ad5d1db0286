"""The kept figures of the bundled model: README.md is what the tool writes, and the weights are those that ship."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from convit.evaluation.weights_used import fingerprint_of

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "probes"


def test_the_readme_is_up_to_date() -> None:
    command = [sys.executable, ROOT / "docs" / "probes" / "make.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["cifar10", "tiny-imagenet"])
def test_they_belong_to_the_weights_that_ship(name: str) -> None:
    found = json.loads((DOCS / f"{name}.json").read_text())
    assert found["fingerprint"] == fingerprint_of(found["model"], None)
    assert found["unreadable"] == {}
    assert (DOCS / f"{name}.png").read_bytes().startswith(b"\x89PNG")
