"""The command `convit`: label and embed images, list models, train, evaluate.

The room promises that a command never ends in a traceback (`convit.cli.errors` turns every error into one line and an
exit code), that nothing heavier than typer and rich is imported before a command really runs, and that an output that
cannot be written is noticed before any model is loaded. Start reading at `convit.cli.app`, which names the commands and
the module of each.
"""

from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code, as `convit.cli.app.main` does."""
    try:
        from convit.cli import app
    except KeyboardInterrupt:  # in the moment that the imports take
        return 130
    return app.main(arguments)
