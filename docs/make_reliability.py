"""Writes docs/reliability.md from what tools/fuzz.py, kill.py and kill_ray.py found (docs/reliability/*.json).

    python docs/make_reliability.py [--check]

A tool keeps its part with `keep`, as a `Part`: what was done, a table of counts and the command that does it again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

PAGE = Path(__file__).with_name("reliability.md")
KEPT = Path(__file__).with_name("reliability")
PARTS = {"fuzz": "Mutated files", "kill": "Killed runs", "kill_ray": "Killed jobs on Ray"}
HEAD = """# Reliability

Attempts to break this package, and their results; written by `docs/make_reliability.py` from `docs/reliability/`.
"""


class Part(TypedDict):
    """What a tool found.

    Attributes:
        command: does it again.
        date: of the run.
        about: what was done and what counts as a fault, in Markdown.
        columns: headings of the table.
        rows: as many values each.
        notes: what else is to be said, a paragraph each; faults that are known, and what was not tried.
    """

    command: str
    date: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str]


def keep(
    name: str,
    command: str,
    about: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    notes: Sequence[str] = (),
    folder: Path = KEPT,
) -> None:
    """Keep what a tool found; `name` is one of `PARTS`, the rest are the fields of a `Part`."""
    found = Part(
        command=command,
        date=datetime.now(UTC).date().isoformat(),
        about=about,
        columns=columns,
        rows=rows,
        notes=notes,
    )
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def render(parts: Mapping[str, Part]) -> str:
    """The page; a part that is not there yet is left out."""
    text = HEAD
    for name, title in PARTS.items():
        if (part := parts.get(name)) is not None:
            lines = [part["columns"], ["---", *["---:"] * (len(part["columns"]) - 1)], *part["rows"]]
            table = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
            notes = "".join(f"\n{note}\n" for note in part["notes"])
            text += f"\n## {title}\n\n{part['about']}\n\n{table}\n{notes}\n`{part['command']}`, {part['date']}.\n"
    return text


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or with --check say whether it is up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where the page is out of date")
    given = parser.parse_args(arguments)
    text = render({file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(KEPT.glob("*.json"))})
    if not given.check:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        print("docs/reliability.md is out of date; write it with: python docs/make_reliability.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
