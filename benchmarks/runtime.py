"""What it costs to label one photograph with `convit-runtime`, beside `convit`.

The runtime's wheel is built and installed into an empty environment with ONNX Runtime, and into another with OpenVINO
too; the same exported model is run by both, and by `convit` with PyTorch from its weights. Measured is the size of what
is installed (without bytecode), and of fresh processes, called alternately, the seconds of CPU and the memory at its
peak, in medians. Targets, with ONNX Runtime: 160 MiB, 0.5 s, 100 MB.

    python benchmarks/runtime.py
    python benchmarks/runtime.py --rounds 3 --dry
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

PAGE = ROOT / "docs" / "how_to" / "run_without_torch.md"
MODELS = ("convit_nano_patch4_32.cifar10", "convit_mini_patch8_64.tiny_imagenet")
TARGETS = {"installed_mib": 160.0, "cpu_seconds": 0.5, "memory_mb": 100.0}
# the files of a distribution and of all that it needs
_INSTALLED = """
import re
from sys import argv
from importlib.metadata import PackageNotFoundError, distribution
waiting, seen, size = [argv[1]], set(), 0
while waiting:
    name = re.split(r"[^A-Za-z0-9._-]", waiting.pop())[0].lower().replace("_", "-")
    if name in seen:
        continue
    seen.add(name)
    try:
        found = distribution(name)
    except PackageNotFoundError:
        continue
    waiting += [each for each in found.requires or () if "extra ==" not in each] + argv[2:]
    places = (found.locate_file(file) for file in found.files or () if not str(file).endswith(".pyc"))
    size += sum(place.stat().st_size for place in places if place.is_file())
print(size)
"""


# a process starts with the peak of the one that started it: a small one does
_MEASURED = """
import json, os
from sys import argv
process = os.posix_spawn(argv[1], argv[1:], os.environ)
_, status, used = os.wait4(process, 0)
assert status == 0, argv
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""


@dataclass(frozen=True)
class Program:
    """One way to label a photograph.

    Attributes:
        name: as the table shows it.
        command: what starts it, up to the options.
        installed_mib: size of what it needs, 2^20 bytes.
    """

    name: str
    command: tuple[str, ...]
    installed_mib: float


def install(folder: Path, *extras: str) -> Path:
    """Build the runtime's wheel, install it into a new environment, and give that environment's Python."""
    uv = [sys.executable, "-m", "uv"]
    python = folder / "bin" / "python"
    wheels = folder.with_name("dist")
    run(*uv, "build", "--quiet", "--wheel", "--out-dir", wheels, ROOT / "runtime")
    run(*uv, "venv", "--quiet", "--python", sys.executable, folder)
    wheel = str(next(wheels.glob("*.whl"))) + (f"[{','.join(extras)}]" if extras else "")
    run(*uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, wheel)
    return python


def installed_mib(python: Path | str, distribution: str, *more: str) -> float:
    """Size of a distribution and all that it needs, with `more` of them, without bytecode: 2^20 bytes."""
    return int(run(python, "-c", _INSTALLED, distribution, *more)) / 2**20


def label(command: list[str]) -> tuple[float, float]:
    """Seconds of CPU and 10^6 bytes at the peak of a fresh process."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    starter = [sys.executable, "-I", "-c", _MEASURED, *command]
    done = subprocess.run(starter, check=True, capture_output=True, text=True, env=environment, cwd=ROOT)
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory * (1 if sys.platform == "darwin" else 1024) / 1e6


def measure(programs: dict[Program, dict[str, list[str]]], photograph: Path, rounds: int) -> list[dict[str, Any]]:
    """Label the photograph with everybody in turn, after one round that is not counted."""
    found: dict[tuple[Program, str], list[tuple[float, float]]] = {}
    for number in range(rounds + 1):
        for program, models in programs.items():
            for model, options in models.items():
                taken = label([*program.command, "classify", str(photograph), *options])
                found.setdefault((program, model), []).extend([taken] * (number > 0))
    return [
        {
            "program": program.name,
            "model": model,
            "installed_mib": round(program.installed_mib, 1),
            "cpu_seconds": round(statistics.median(seconds for seconds, _ in taken), 3),
            "memory_mb": round(statistics.median(memory for _, memory in taken), 1),
            "rounds": rounds,
        }
        for (program, model), taken in found.items()
    ]


def rows_of_page(rows: list[dict[str, Any]], machine: dict[str, Any]) -> str:
    """The table of the how-to page: that of RESULTS.md without targets."""
    from benchmarks.report import TABLES, markdown

    cells = [list(TABLES["runtime"](row).items())[:5] for row in rows]
    return (
        f"\n{markdown({name: cell.strip('*') for name, cell in each} for each in cells)}\n\n"
        f"Medians of {rows[0]['rounds']} fresh processes on {machine['cpu']}, {machine['cores']} cores; sizes without "
        "bytecode. Written by `benchmarks/runtime.py`.\n"
    )


def write_models(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Export the models, to ONNX and to OpenVINO; format → model → options."""
    from convit.export import ExportSettings, export_model
    from convit.weights import create_model

    found: dict[str, dict[str, list[str]]] = {"onnx": {}, "openvino": {}}
    for name in MODELS:
        for form, options in found.items():
            place = folder / form / name
            place.parent.mkdir(exist_ok=True)
            export_model(create_model(name, pretrained=True), place, ExportSettings(form))
            options[name] = ["--model", str(place)]
    return found


def run(*command: object) -> str:
    return subprocess.run([*map(str, command)], check=True, capture_output=True, text=True).stdout


def measure_all(rounds: int) -> Iterator[dict[str, Any]]:
    """A row for each program and model."""
    from benchmarks.decoding import make_collage

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        models = write_models(folder)
        photograph = folder / "photograph.jpg"
        photograph.write_bytes(make_collage())
        plain, other = install(folder / "plain"), install(folder / "openvino_too", "openvino")
        small, large = (str(each.with_name("convit-runtime")) for each in (plain, other))
        light = Program("convit-runtime", (small,), installed_mib(plain, "convit-runtime"))
        both = Program("convit-runtime, OpenVINO", (large,), installed_mib(other, "convit-runtime", "openvino"))
        whole = Program("convit (PyTorch)", (sys.executable, "-m", "convit"), installed_mib(sys.executable, "convit"))
        named = {name: ["--model", name] for name in MODELS}
        programs = {light: models["onnx"], both: models["openvino"], whole: named}
        for row in measure(programs, photograph, rounds):
            targets = TARGETS if row["program"] == light.name else None
            met = targets is None or all(row[name] <= most for name, most in targets.items())
            yield {**row, "targets": targets, "met": met}


def main() -> None:
    from benchmarks.machine import benchmark_parser, describe_machine, keep_rows
    from docs.documents import fill_section

    given = benchmark_parser(__doc__, rounds=9).parse_args()
    rows = keep_rows("runtime", measure_all(given.rounds), dry=given.dry)
    if not given.dry:
        text, table = PAGE.read_text("utf-8"), rows_of_page(rows, describe_machine())
        PAGE.write_text(fill_section(text, "<!-- costs -->\n", "<!-- end of costs -->", table))


if __name__ == "__main__":
    main()
