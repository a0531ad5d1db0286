"""How the commands that look at many pictures end where some could not be read."""

import sys
from collections.abc import Mapping

import typer

from convit.cli import errors

_MOST = 10


def leave_if_unreadable(unreadable: Mapping[str, str], *, quiet: bool = False) -> None:
    """Name the pictures that could not be read, and end the command with code 3; do nothing where there are none.

    Args:
        unreadable: name → one line that says what is wrong.
        quiet: whether only the first is named.

    Raises:
        typer.Exit: with code 3.
    """
    if not unreadable:
        return
    # a problem that does not name its picture is told with the name in front
    lines = [problem if name in problem else f"{name}: {problem}" for name, problem in unreadable.items()]
    for line in lines[1 : 1 if quiet else _MOST]:
        print(f"convit: warning: {errors.one_line(line)}", file=sys.stderr)
    count = "" if len(lines) == 1 else f"{len(lines)} images could not be read; the first: "
    print(f"convit: error: {errors.one_line(count + lines[0])}", file=sys.stderr)
    raise typer.Exit(errors.SOME_UNREADABLE)
