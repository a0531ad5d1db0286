"""What libraries print while they are silenced stays away, and nothing after it."""

import os
import sys
from pathlib import Path

import pytest

from convit.output.console import silenced


def test_what_libraries_print_is_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    before = len([*Path("/proc/self/fd").iterdir()])
    with silenced():
        print("progress")
        print("log", file=sys.stderr)
        os.write(1, b"from C++\n")
        os.write(2, b"from C++ too\n")
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    print("row")
    print("problem", file=sys.stderr)
    assert capfd.readouterr() == ("row\n", "problem\n")
