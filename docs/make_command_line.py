"""Writes docs/reference/command_line.md, the help of every command, for the documentation site.

    python docs/make_command_line.py

The page is not kept in the repository: `make docs` writes it before it builds the site.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
from pathlib import Path

PAGE = Path(__file__).with_name("reference") / "command_line.md"
HEAD = "# Command line\n\nWhat `convit COMMAND --help` prints.\n"


def read_help(*arguments: str) -> str:
    """What a command prints about itself, 80 columns wide."""
    from convit.cli import main

    os.environ["COLUMNS"] = "80"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        main([*arguments, "--help"])
    return out.getvalue().strip()


def render() -> str:
    """The page: the program, then its commands in the order in which it lists them."""
    program = read_help()
    names = re.findall(r"^  (\w+)  ", program.partition("\nCommands:\n")[2], re.MULTILINE)
    sections = [("convit", program), *((f"convit {name}", read_help(name)) for name in names)]
    return HEAD + "".join(f"\n## {title}\n\n```text\n{text}\n```\n" for title, text in sections)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    PAGE.write_text(render(), encoding="utf-8")
