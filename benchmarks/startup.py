"""What it costs to start the command, against importing its libraries.

Measures the wall time of fresh processes, called alternately, with every file in the system's cache; medians and
quartiles. `convit --help` against `import typer, rich`: at most twice the libraries' time, and without importing torch.
`convit classify PHOTO` with the weights in the package against `import torch, torchvision`: at most 1.3 times the
libraries' time and half a second.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 3 --dry
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from convit.benchmark.timing import alternate, summarize

MODEL = "convit_nano_patch4_32.cifar10"
HEAVY = ("torch", "torchvision", "sympy", "triton", "pyarrow")
_PROGRAM = """
import json, sys
from convit.cli import main
assert main(sys.argv[1:]) == 0
print(json.dumps(sorted(sys.modules)))
"""


@dataclass(frozen=True)
class Start:
    """One command and what it is measured against.

    Attributes:
        shown: the command as a table shows it.
        arguments: what stands after `convit`.
        libraries: the import that it is measured against.
        ratio: how many times as long as the import it may take.
        extra_ms: milliseconds that it may take on top.
        rounds: share of the rounds asked for; the long runs need fewer.
    """

    shown: str
    arguments: list[str]
    libraries: str
    ratio: float
    extra_ms: float
    rounds: float


def starts(photograph: Path) -> list[Start]:
    """The commands that are measured; one of them labels `photograph`."""
    return [
        Start("convit --help", ["--help"], "import typer, rich", 2.0, 0.0, 1.0),
        Start(
            f"convit classify PHOTO --model {MODEL}",
            ["classify", str(photograph), "--model", MODEL],
            "import torch, torchvision",
            1.3,
            500.0,
            0.4,
        ),
    ]


def measure(start: Start, rounds: int) -> dict[str, Any]:
    """Time fresh processes of both, in turn."""
    commands = {
        "libraries": [sys.executable, "-c", start.libraries],
        "convit": [sys.executable, "-m", "convit", *start.arguments],
    }
    calls = {
        name: lambda c=command: subprocess.run(c, check=True, stdout=subprocess.DEVNULL)
        for name, command in commands.items()
    }
    turns = max(1, round(rounds * start.rounds))
    times = {name: summarize(values) for name, values in alternate(calls, turns).items()}
    return row(start, turns, times, heavy_imports(start))


def row(start: Start, rounds: int, times: dict[str, dict[str, float]], heavy: list[str]) -> dict[str, Any]:
    """What is kept of one measurement."""
    ours, theirs = times["convit"]["median"], times["libraries"]["median"]
    limit = start.ratio * theirs + start.extra_ms
    return {
        "command": start.shown,
        "libraries": start.libraries,
        "rounds": rounds,
        "convit_ms": times["convit"],
        "libraries_ms": times["libraries"],
        "ratio": round(ours / theirs, 3),
        "target": start.ratio,
        "extra_ms": start.extra_ms,
        "limit_ms": round(limit, 3),
        "met": ours <= limit,
        "imports": heavy,
        "imports_torch": "torch" in heavy,
    }


def heavy_imports(start: Start) -> list[str]:
    """The large packages that the command ends with among the imported modules."""
    command = [sys.executable, "-c", _PROGRAM, *start.arguments]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = json.loads(run.stdout.splitlines()[-1])
    return [name for name in HEAVY if name in loaded]


def measure_all(rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each command."""
    from benchmarks.decoding import make_collage

    with tempfile.TemporaryDirectory() as place:
        photograph = Path(place, "photograph.jpg")
        photograph.write_bytes(make_collage())
        for start in starts(photograph):
            yield measure(start, rounds)


def main() -> None:
    from benchmarks.machine import benchmark_parser, keep_rows

    given = benchmark_parser(__doc__, rounds=21).parse_args()
    keep_rows("startup", measure_all(given.rounds), dry=given.dry)


if __name__ == "__main__":
    main()
