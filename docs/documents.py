"""What the tools that write documents share: command lines, photographs, screenshots, and keeping what was found."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PHOTOGRAPHS = ROOT / "examples" / "photos"


def take_screenshot(page: Path, output: Path, *, height: int, width: int = 1160) -> None:
    """Open an HTML file in Debian's chromium, in a window of so many pixels, and keep what is seen as a PNG file.

    Raises:
        FileNotFoundError: chromium is not installed.
        RuntimeError: the browser complained of the page.
    """
    browser = shutil.which("chromium")
    if browser is None:
        raise FileNotFoundError("screenshots need chromium; install Debian's package of that name")
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
        options += [f"--window-size={width},{height}", f"--screenshot={output}", f"--user-data-dir={profile}"]
        done = subprocess.run([browser, *options, page.as_uri()], check=True, capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    if complaints:
        raise RuntimeError(f"the browser complained of {page}: {complaints[0]}")


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


def read_json(path: Path) -> Any:
    """What was kept, or what a command of ours wrote as JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


def fill_section(text: str, start: str, end: str, content: str) -> str:
    """A document with what stands between two marks made anew."""
    before, rest = text.split(start)
    return f"{before}{start}{content}{end}{rest.split(end)[1]}"


def measured_on(machine: Mapping[str, Any]) -> str:
    """A sentence on what `convit.benchmark.running.describe_machine` gave."""
    return (
        f"Measured on {machine['date'][:10]} with {machine['threads']} thread(s) of {machine['cpu']}, load average "
        f"{machine['load_average']}; convit {machine['versions']['convit']}, torch {machine['versions']['torch']}."
    )


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
    elif not path.is_file() or path.read_text(encoding="utf-8") != text:
        print(f"{path} is out of date; write it with: {command}")
        return 1
    return 0


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """The parser of a tool that is described by its module."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def write_page(
    path: Path, description: str | None, render: Callable[[], str], command: str, arguments: list[str] | None = None
) -> int:
    """Run a tool, `command`, that writes a document and takes --check alone; gives the exit code."""
    parser = parser_of(description)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where the page is out of date")
    check = parser.parse_args(arguments).check
    return write_or_check(path, render(), command, check=check)


def run_tool(
    page: Path,
    description: str | None,
    render: Callable[[], str],
    measure: Callable[..., None],
    draw: Callable[[], None] | None = None,
) -> int:
    """Run a tool that measures data, draws figures (unless it has none) and writes a page from what is kept.

    Args:
        page: the page.
        description: of the tool, for --help.
        render: gives the text of the page.
        measure: keeps what is found on `data`, and on its `split` where the tool draws.
        draw: keeps the figures.

    Returns:
        The exit code: 1 where `write --check` finds the page out of date.
    """
    parser = parser_of(description)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("data")
    if draw is not None:
        measuring.add_argument("--split")
        commands.add_parser("draw")
    commands.add_parser("write").add_argument("--check", action="store_true")
    given = vars(parser.parse_args())
    command, check = given.pop("command"), given.pop("check", False)
    if command == "measure":
        measure(**given)
    elif command == "draw" and draw is not None:
        draw()
    return write_or_check(page, render(), f"python docs/{page.parent.name}/make.py write", check=check)
