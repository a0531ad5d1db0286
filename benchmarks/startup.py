"""What it costs to start the command: `convit --help` against importing its two libraries.

Measures the wall time of fresh processes, called alternately: `python -m convit --help` and `python -c "import typer,
rich"`; medians and quartiles. Also says whether `--help` imports torch. Target: at most twice the libraries' time.

    python benchmarks/startup.py
    python benchmarks/startup.py --rounds 3 --dry
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from convit.benchmark.timing import alternate, summarise

TARGET = 2.0
COMMANDS = {
    "libraries": [sys.executable, "-c", "import typer, rich"],
    "convit": [sys.executable, "-m", "convit", "--help"],
}


def imports_torch() -> bool:
    """Whether `convit --help` ends with torch among the imported modules."""
    program = "import sys; from convit.cli import main; main(['--help']); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return run.stdout.splitlines()[-1] == "True"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--dry", action="store_true", help="keep no result")
    given = parser.parse_args()

    from benchmarks.machine import describe_machine, print_machine, save_result

    machine = describe_machine()
    print_machine(machine)
    calls = {
        name: lambda c=command: subprocess.run(c, check=True, stdout=subprocess.DEVNULL)
        for name, command in COMMANDS.items()
    }
    times = {name: summarise(values) for name, values in alternate(calls, given.rounds).items()}
    row = {
        "command": "convit --help",
        "rounds": given.rounds,
        "convit_ms": times["convit"],
        "libraries_ms": times["libraries"],
        "ratio": round(times["convit"]["median"] / times["libraries"]["median"], 3),
        "target": TARGET,
        "imports_torch": imports_torch(),
    }
    print(
        f"convit --help {times['convit']['median']:.0f} ms, import typer, rich {times['libraries']['median']:.0f} ms, "
        f"ratio {row['ratio']:.2f} (target at most {TARGET}); imports torch: {row['imports_torch']}"
    )
    if not given.dry:
        print(save_result("startup", machine, [row]))


if __name__ == "__main__":
    main()
