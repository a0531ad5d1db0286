"""Files of one JSON line per epoch: what is kept, what goes, and what is refused."""

import json
import os
from pathlib import Path

import pytest

from convit.output.text import add_line, read_lines


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
