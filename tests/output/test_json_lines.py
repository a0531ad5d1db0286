"""JSON without numbers that it does not have, and files of a line per epoch: what is kept, what goes and what fails."""

import io
import json
import math
import os
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from convit.cli.errors import on_stderr
from convit.cli.options import print_result
from convit.output.text import add_line, as_json, json_text, read_lines


def _printed(value: dict[str, Any]) -> str:
    with on_stderr(), redirect_stdout(io.StringIO()) as text:
        print_result(None, value)
    return text.getvalue()


def _logged(value: dict[str, Any]) -> str:
    with TemporaryDirectory() as folder:
        add_line(Path(folder, "log.jsonl"), value)
        return Path(folder, "log.jsonl").read_text("utf-8")


@pytest.mark.parametrize("write", [as_json, json_text, _printed, _logged])
def test_what_is_not_finite_is_null(write: Callable[[Any], str]) -> None:
    value = {"epoch": 1, "loss": math.nan, "rates": (math.inf, [-math.inf, 0.5]), "by": {"a": np.float64("nan")}}

    def refuse(number: str) -> None:
        raise AssertionError(number)

    found = json.loads(write(value), parse_constant=refuse)
    assert found == {"epoch": 1, "loss": None, "rates": [None, [None, 0.5]], "by": {"a": None}}


def test_later_epochs_make_room(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    assert read_lines(file) == []
    for epoch in (1, 2, 3, 2):
        add_line(file, {"epoch": epoch, "value": 10 * epoch})
    assert read_lines(file) == [{"epoch": 1, "value": 10}, {"epoch": 2, "value": 20}]
    assert [json.loads(line)["epoch"] for line in file.read_text().splitlines()] == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


@pytest.mark.parametrize("line", ['{"epoch": 2, "val', "[1]", '{"step": 1}', "\ufffd"])
def test_what_is_no_such_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text('{"epoch": 1}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"log\.jsonl, line 2 is not (valid|a) JSON.*remove the line"):
        read_lines(file)


def test_a_full_disk_leaves_the_old_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "log.jsonl"
    add_line(file, {"epoch": 1})

    def fill(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(OSError, match="no space left on the device"):
        add_line(file, {"epoch": 2})
    monkeypatch.undo()
    assert read_lines(file) == [{"epoch": 1}]
