"""The files of a run that hold one line of JSON per epoch: how they are read, and how a line is added.

Without Lightning, so that what only reads a run needs no trainer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convit.output.files import write_file


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a file, oldest epoch first; none where there is no such file.

    Raises:
        ValueError: a line is not a JSON object with an "epoch".
    """
    path = Path(path)
    if not path.exists():
        return []
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if text.strip():
            lines.append(_parse(text, f"{path}, line {number}"))
    return lines


def add_line(path: str | Path, line: Mapping[str, Any]) -> None:
    """Write an epoch's line after those of earlier epochs; lines of the same and later ones go.

    So a resumed run replaces what it does again. The file is whole at any moment.

    Args:
        path: the file; made where there is none.
        line: JSON-able values, with the number of the epoch under "epoch".

    Raises:
        ValueError: the file holds other lines.
        OSError: the file cannot be written; it stays as it was.
    """
    path = Path(path)
    kept = [old for old in read_lines(path) if old["epoch"] < line["epoch"]]
    write_file(path, "".join(json.dumps(each) + "\n" for each in [*kept, line]), overwrite=True)


def epoch_score(line: Mapping[str, Any]) -> tuple[float, float, int]:
    """What epochs are ranked by: top-1, then the lower validation loss, then the later epoch.

    Args:
        line: an epoch's, with "epoch", "val_top1" and "val_loss"; of these, None and NaN rank last.
    """
    top1, loss = (math.nan if line.get(key) is None else line[key] for key in ("val_top1", "val_loss"))
    return -math.inf if math.isnan(top1) else top1, -math.inf if math.isnan(loss) else -loss, line["epoch"]


def _parse(text: str, place: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is not valid JSON ({error.msg}); remove the line, or the file") from None
    if not isinstance(line, dict) or not isinstance(line.get("epoch"), int):
        raise ValueError(f"{place} is not a JSON object with an epoch; remove the line, or the file")
    return line
