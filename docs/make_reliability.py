"""Writes docs/reliability.md from what tools/fuzz.py, kill.py and kill_ray.py found (docs/reliability/*.json).

    python docs/make_reliability.py [--check]

A tool keeps its part with `keep`: what was done, a table of counts and the command that does it again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from documents import keep_json, read_json, write_page

PAGE = Path(__file__).with_name("reliability.md")
KEPT = Path(__file__).with_name("reliability")
PARTS = {"fuzz": "Mutated files", "kill": "Killed runs", "kill_ray": "Killed jobs on Ray"}
HEAD = """# Reliability

Attempts to break this package, and their results; written by `docs/make_reliability.py` from `docs/reliability/`.
"""


def keep(
    name: str,
    command: str,
    about: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    notes: Sequence[str] = (),
    folder: Path = KEPT,
) -> None:
    """Keep what a tool found today.

    Args:
        name: of the part of the page, one of `PARTS`.
        command: does it again.
        about: what was done and what counts as a fault, in Markdown.
        columns: headings of the table.
        rows: as many values each.
        notes: what else is to be said, a paragraph each; faults that are known, and what was not tried.
        folder: where it is kept.
    """
    found = {"command": command, "date": datetime.now(UTC).date().isoformat(), "about": about}
    folder.mkdir(exist_ok=True)
    keep_json(folder / f"{name}.json", {**found, "columns": columns, "rows": rows, "notes": notes})


def render() -> str:
    """The page; a part that is not there yet is left out."""
    text = HEAD
    for name, title in PARTS.items():
        if (file := KEPT / f"{name}.json").is_file():
            part = read_json(file)
            lines = [part["columns"], ["---", *["---:"] * (len(part["columns"]) - 1)], *part["rows"]]
            table = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
            notes = "".join(f"\n{note}\n" for note in part["notes"])
            text += f"\n## {title}\n\n{part['about']}\n\n{table}\n{notes}\n`{part['command']}`, {part['date']}.\n"
    return text


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or with --check say whether it is up to date."""
    return write_page(PAGE, __doc__, render, "python docs/make_reliability.py", arguments)


if __name__ == "__main__":
    sys.exit(main())
