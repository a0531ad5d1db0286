"""Counts the functions of the package that one photograph passes through in `convit classify`.

    python tools/trace_classify.py [PHOTOGRAPH] [--where]

Runs the command in this process with the weights in the package. `sys.setprofile` notes every function of the package
that is called from the command's body until the row is written, in all threads; what runs while a module is imported is
left out, and comprehensions count as part of their function. Three counts are printed: what makes the model ready
(everything until the classifier stands), the way of the photograph from there to the written row, and the layers of
the model that are computed on it.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import threading
from collections import defaultdict
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import convit

PACKAGE = Path(convit.__file__).parent
MODEL = "convit_nano_patch4_32.cifar10"
BODY = "classify"  # where counting starts
READY = "Classifier.__init__"  # where the model is ready
LAYERS = ("model", "optimization")  # rooms of the model's own computation

Place = tuple[str, str]


class Trace:
    """The functions of the package that were called.

    Attributes:
        is_running: between the command's body and the written row.
        before: those that were called until the model was ready, in the order of their first calls.
        after: those that were called from there on.
    """

    def __init__(self) -> None:
        self.is_running = False
        self.before: dict[CodeType, None] = {}
        self.after: dict[CodeType, None] = {}
        self._seen = self.before
        self._importing: dict[int, int] = defaultdict(int)  # thread → modules that are being imported

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Take note of one event; for `sys.setprofile`."""
        code, thread = frame.f_code, threading.get_ident()
        if code.co_name == "<module>":
            self._importing[thread] += {"call": 1, "return": -1}.get(event, 0)
        if not code.co_filename.startswith(str(PACKAGE)) or self._importing[thread]:
            return
        if event == "return" and code.co_qualname == READY:
            self._seen = self.after
        if event == "call":
            self.is_running = self.is_running or code.co_qualname == BODY
            if self.is_running and not (code.co_name.startswith("<") and code.co_name != "<lambda>"):
                self._seen.setdefault(code)


@dataclass(frozen=True)
class Counted:
    """(file in the package, qualified name) of each function, in the order of their first calls."""

    preparation: list[Place]
    way: list[Place]
    layers: list[Place]


class Output(io.StringIO):
    """Standard output that stops a trace at the first row."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def write(self, text: str) -> int:
        """Write, and stop the trace."""
        self.trace.is_running = False
        sys.setprofile(None)
        return super().write(text)


def trace_classify(photograph: Path) -> Counted:
    """Run the command on one photograph and sort the functions that it needs."""
    from convit.cli import main

    trace = Trace()
    threading.setprofile(trace)
    try:
        with redirect_stdout(Output(trace)), redirect_stderr(io.StringIO()):
            sys.setprofile(trace)
            code = main(["classify", str(photograph), "--model", MODEL, "--quiet"])
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # pyright: ignore[reportArgumentType]
    if code:
        raise SystemExit(code)
    after = [_place(code) for code in trace.after]
    layers = [place for place in after if place[0].partition("/")[0] in LAYERS]
    return Counted([_place(code) for code in trace.before], [place for place in after if place not in layers], layers)


def _place(code: CodeType) -> Place:
    return Path(code.co_filename).relative_to(PACKAGE).as_posix(), code.co_qualname


def main() -> None:
    """Print the counts, and with --where the functions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photograph", type=Path, nargs="?", help="an image file; without it a cat")
    parser.add_argument("--where", action="store_true", help="name the functions too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.photograph is None:
            from PIL import Image
            from skimage import data

            Image.fromarray(data.chelsea()).save(Path(folder) / "cat.jpg")
        found = trace_classify(given.photograph or Path(folder) / "cat.jpg")
    for title, places in (
        ("making the model ready", found.preparation),
        ("way of the photograph", found.way),
        ("layers of the model", found.layers),
    ):
        print(f"{title}: {len(places)} functions in {len({file for file, _ in places})} files")
        if given.where:
            print(*(f"  {file}: {name}" for file, name in places), sep="\n")


if __name__ == "__main__":
    main()
