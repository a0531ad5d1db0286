"""The command `convit`: label and embed images, list models, train, evaluate.

The room promises that a command never ends in a traceback (`convit.cli.errors` turns every error into one line and an
exit code), that nothing heavier than typer and rich is imported before a command really runs, and that an output that
cannot be written is noticed before any model is loaded. Start reading at `convit.cli.app`, which names the commands and
the module of each.
"""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code, as `convit.cli.app.main` does."""
    try:
        from convit.cli import app

        return app.main(arguments)
    except KeyboardInterrupt:  # in the moments that the imports take, or that lie around the command
        if sys.stderr is not None:
            print(f"{__name__.partition('.')[0].replace('_', '-')}: stopped by Ctrl-C", file=sys.stderr)
        return 130
