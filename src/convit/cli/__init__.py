"""The command `convit`: label and embed images, list models, train, evaluate.

The room promises that a command never ends in a traceback (`convit.cli.errors` turns every error into one line and an
exit code), that nothing heavier than typer and rich is imported before a command really runs, and that an output that
cannot be written is noticed before any model is loaded. Start reading at `convit.cli.app`, which names the commands and
the module of each.
"""

import signal
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code, as `convit.cli.app.main` does.

    Without arguments, it is the command of the process itself: after it, Ctrl-C has the system's default action, and
    raises no `KeyboardInterrupt` while Python and libraries clean up.
    """
    try:
        from convit.cli import app

        code = app.main(arguments)
        _leave_ctrl_c(arguments)
    except KeyboardInterrupt:  # in the moments that the imports take, or that lie around the command
        _leave_ctrl_c(arguments)
        if sys.stderr is not None:
            print(f"{__name__.partition('.')[0].replace('_', '-')}: stopped by Ctrl-C", file=sys.stderr)
        return 130
    return code


def _leave_ctrl_c(arguments: Sequence[str] | None) -> None:
    if arguments is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
