"""What the tools that write documents share: running the command, pieces of photographs, and keeping what was found."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

PHOTOGRAPHS = Path(__file__).resolve().parents[1] / "examples" / "photos"


def run_convit(*arguments: object) -> None:
    """Run a command of ours in silence; a failure ends the tool."""
    command = [sys.executable, "-m", "convit", *map(str, arguments), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def cut_photographs(names: Mapping[str, str], pieces: int) -> Iterator[tuple[str, int, Image.Image]]:
    """The photographs of the demo (examples/photos, public domain), cut into pieces.

    Args:
        names: a label of each, and its file there without the suffix.
        pieces: how many across, and as many down.

    Yields:
        (label, number, image) of each piece, row by row.
    """
    from PIL import Image

    for label, name in names.items():
        image = Image.open(PHOTOGRAPHS / f"{name}.jpg").convert("RGB")
        width, height = image.width // pieces, image.height // pieces
        for number in range(pieces**2):
            left, top = number % pieces * width, number // pieces * height
            yield label, number, image.crop((left, top, left + width, top + height))


def keep_json(path: Path, content: Mapping[str, Any], indent: int | None = 1) -> None:
    """Write what was found as JSON; without indentation on one line."""
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """What was kept under some names."""
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names}


def fill_section(text: str, start: str, end: str, content: str) -> str:
    """A document with what stands between two marks made anew."""
    before, rest = text.split(start)
    return f"{before}{start}{content}{end}{rest.split(end)[1]}"


def write_or_check(path: Path, text: str, command: str, *, check: bool) -> int:
    """Write a document, or find out whether it is up to date.

    Args:
        path: the document.
        text: what it should be.
        command: what writes it, for the message.
        check: only compares.

    Returns:
        The exit code: 1 where it is out of date.
    """
    if not check:
        path.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        print(f"docs/{path.parent.name}/{path.name} is out of date; write it with: {command}")
        return 1
    return 0


def read_arguments(description: str | None, arguments: list[str] | None, *, draws: bool = True) -> argparse.Namespace:
    """The command line of a tool that measures data, draws figures (unless it has none) and writes a document."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("data")
    measuring.add_argument("--split")
    if draws:
        commands.add_parser("draw")
    commands.add_parser("write").add_argument("--check", action="store_true")
    return parser.parse_args(arguments)
