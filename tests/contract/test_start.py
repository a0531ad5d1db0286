"""What it costs to start: nothing heavy before a command really runs."""

import statistics
import subprocess
import sys
import time

import pytest

HEAVY = (
    "torch",
    "torchvision",
    "numpy",
    "PIL",
    "pyarrow",
    "huggingface_hub",
    "lightning",
    "matplotlib",
    "timm",
    "fastapi",
)
ROUNDS = 9


@pytest.mark.parametrize(
    "program",
    [
        "import convit",
        "import convit.cli",
        "from convit.cli import main; main(['--help'])",
        "from convit.cli import main; main(['--version'])",
        "from convit.cli import main; main(['classify', '--help'])",
        "from convit.cli import main; main(['embed', '--help'])",
        "from convit.cli import main; main(['models', '--help'])",
        "from convit.cli import main; main(['info', '--help'])",
        "from convit.cli import main; main(['train', '--help'])",
        "from convit.cli import main; main(['evaluate', '--help'])",
        "from convit.cli import main; main(['probe', '--help'])",
        "from convit.cli import main; main(['index', '--help'])",
        "from convit.cli import main; main(['search', '--help'])",
        "from convit.cli import main; main(['duplicates', '--help'])",
        "from convit.cli import main; main(['explain', '--help'])",
        "from convit.cli import main; main(['ablate', '--help'])",
        "from convit.cli import main; main(['finetune', '--help'])",
        "from convit.cli import main; main(['benchmark', '--help'])",
        "from convit.cli import main; main(['plot', '--help'])",
        "from convit.cli import main; main(['serve', '--help'])",
        "from convit.cli import main; main(['plan', '--help'])",
        "from convit.cli import main; main(['export', '--help'])",
        "from convit.cli import main; main(['push', '--help'])",
        "from convit.cli import main; main(['classify', 'no-such-file.jpg'])",
    ],
)
def test_nothing_heavy_is_imported(program: str) -> None:
    allowed = {"numpy", "PIL"} if "no-such-file" in program else set[str]()
    listing = f"import sys; print('loaded:', *[name for name in {HEAVY} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", f"{program}; {listing}"], capture_output=True, text=True, check=True)
    loaded = run.stdout.rsplit("loaded:", 1)[1].split()
    assert set(loaded) <= allowed


def test_help_takes_at_most_twice_the_time_of_its_libraries() -> None:
    libraries = [sys.executable, "-c", "import typer, rich"]
    ours = [sys.executable, "-m", "convit", "--help"]
    seconds: dict[str, list[float]] = {"libraries": [], "ours": []}
    for _ in range(ROUNDS):  # alternating, so that a busy machine is busy for both
        seconds["libraries"].append(_time(libraries))
        seconds["ours"].append(_time(ours))
    assert statistics.median(seconds["ours"]) <= 2 * statistics.median(seconds["libraries"]), seconds


def _time(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start
