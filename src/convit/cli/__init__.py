"""The command `convit`: label and embed images, list models, train, evaluate.

The room promises that a command never ends in a traceback (`convit.cli.errors` turns every error into one line and an
exit code), that nothing heavier than typer and rich is imported before a command really runs, and that an output that
cannot be written is noticed before any model is loaded. Start reading at `convit.cli.app`, which names the commands and
the module of each.
"""

from convit.cli.app import main

__all__ = ["main"]
