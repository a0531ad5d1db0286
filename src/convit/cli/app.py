"""The command line itself: which commands there are, where each lives, and the one place where errors end.

A command's module is imported when that command is asked for and not before: `convit --help` prints the one-line
summaries kept here, so that it costs no more than typer. The modules are thin; what they need is imported inside the
command.
"""

import codecs
import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from itertools import takewhile
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from convit.cli import errors
from convit.cli.commands import ABOUT, COMMANDS, ENGINES, PROGRAM
from convit.output.console import versions_of
from convit.output.files import remove_unfinished

TRAINING = ("finetune", "train")


class LazyCommands(TyperGroup):
    """A group of commands whose modules are imported one at a time, when they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Name the commands, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import one command and give it in the form that typer runs; an unknown name is a usage error."""
        if cmd_name not in COMMANDS:
            close = difflib.get_close_matches(cmd_name, COMMANDS, n=2)
            remedy = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(COMMANDS)}"
            ctx.fail(f"no such command: {cmd_name}; {remedy}")
        from convit.cli.options import spell_out

        if cmd_name in TRAINING:  # before torch is loaded, which reads it once; docs/training.md has the figures
            os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        module, name, _ = COMMANDS[cmd_name]
        function: Callable[..., None] = getattr(import_module(module), name)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name)(spell_out(function))
        return typer.main.get_command(single)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands of `convit --help` without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


# rich's help panels cost more start-up time than all the rest of `convit --help`; plain help is as complete
app = typer.Typer(
    name=PROGRAM,
    cls=LazyCommands,
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from platform import python_version

        versions = versions_of(PROGRAM, *ENGINES)
        own = versions.pop(PROGRAM)
        shown = [f"{engine} {number}" for engine, number in versions.items()]
        typer.echo(f"{PROGRAM} {own} ({', '.join([*shown, f'Python {python_version()}'])})")
        raise typer.Exit


_EXIT_CODES = """Exit codes: 0 success; 1 failure while running (network, disk, permissions); 2 invalid input (option,
path, model, file); 3 finished, but some images could not be read; 129, 130 or 143 stopped by SIGHUP, Ctrl-C or SIGTERM;
141 standard output was closed."""


@app.callback(help=f"{ABOUT}\n\n{_EXIT_CODES}")
def _program(  # pyright: ignore[reportUnusedFunction]  # typer calls it
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show version numbers and exit.")
    ] = False,
) -> None:
    pass


def _check_words(given: Sequence[str]) -> None:
    """Refuse empty words: what a shell makes of "$FOLDER" where that is not set would name the working folder."""
    for number, word in enumerate(given, start=1):
        if not word or re.fullmatch("--[a-z-]+=", word):
            raise ValueError(
                f"argument {number}, {word!r}, is empty, perhaps from a shell variable that is not set; leave it out, "
                "or give it a value"
            )


def _spell_out(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding lacks: as JSON spells them, which text may have as well."""
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code (see `--help`); errors end here, as one line on standard error.

    Args:
        arguments: what stands after `convit`; `None` for the process's own.
    """
    errors.open_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    # read here and not from the parsed options, so that it holds for what fails before or while they are parsed
    debug = "--debug" in takewhile(lambda argument: argument != "--", given)
    command = typer.main.get_command(app)
    if isinstance(sys.stdout, TextIOWrapper):
        # a file name that is not UTF-8, or that the stream's encoding lacks, must cost neither the result nor its JSON
        codecs.register_error("json", _spell_out)
        sys.stdout.reconfigure(errors="json")
    with errors.on_stderr(), errors.stopped_by_signals():
        try:
            _check_words(given)
            with command.make_context(PROGRAM, given) as context:
                command.invoke(context)
            sys.stdout.flush()  # a full disk or a closed pipe may show only here
        except typer.Exit as leave:
            return leave.exit_code
        except (Exception, KeyboardInterrupt, errors.Terminated) as error:
            # typer's own parser does not say whose it is
            named = next((word for word in given if word in COMMANDS), "")
            return errors.report(error, debug=debug, command=f"{PROGRAM} {named}".rstrip())
        finally:
            remove_unfinished()
            errors.close_streams()
    return 0
