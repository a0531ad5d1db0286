"""SIGTERM, SIGHUP and Ctrl-C end every long command with one line, 143 or 130, and nothing half-written."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from convit.cli import errors, main

NANO = ("--model", "convit_nano_patch4_32.cifar10")
# every image takes half a second to open, and the first leaves a mark; a benchmark leaves it where it times
_PROGRAM = """
import sys, time
from pathlib import Path
from PIL import Image
mark, really = Path(sys.argv.pop(1)), Image.open
def slowly(*given, **named):
    mark.touch()
    time.sleep(0.5)
    return really(*given, **named)
Image.open = slowly
if "benchmark" in sys.argv:
    from convit.benchmark import throughput
    timed = throughput.time_all
    throughput.time_all = lambda *given, **named: (mark.touch(), time.sleep(60), timed(*given, **named))
from convit.cli import main
sys.exit(main())
"""

Stopped = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stopped(tmp_path: Path) -> Stopped:
    """Starts a command, stops it while it is at work, and gives its code and what it wrote."""

    def stop(number: int, *arguments: object) -> tuple[int, str, str]:
        mark = tmp_path / "mark"
        command = [sys.executable, "-c", _PROGRAM, str(mark), *map(str, arguments)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            until = time.monotonic() + 120
            while not mark.exists():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        mark.unlink()
        return process.returncode, out, err

    return stop


@pytest.fixture
def labeled(photos: Path, tmp_path: Path) -> Path:
    """Two classes of ten links each to a photograph, larger than any part of it that is read at once."""
    for name, file in (("cat", "cat.jpg"), ("ship", "coffee.png")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(10):
            os.link(photos / file, tmp_path / "data" / name / f"{number}{Path(file).suffix}")
    return tmp_path / "data"


REMOVED = "unfinished output was removed"
COMMANDS = {
    "classify": ("-o", "OUT/rows.jsonl"),
    "embed": ("-o", "OUT/vectors.npz", "--batch-size", 1),
    "evaluate": ("-o", "OUT/found.json", "--report", "OUT/report"),
    "probe": ("-o", "OUT/found.json", "--report", "OUT/report", "--no-cache"),
    "duplicates": ("-o", "OUT/pairs.csv", "--html", "OUT/pairs.html"),
    "ablate": ("-o", "OUT/found.md", "--experiment", "gates"),
}


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ("embed", signal.SIGTERM),
        ("embed", signal.SIGHUP),
        ("classify", signal.SIGINT),
        *(pytest.param(name, signal.SIGTERM, marks=pytest.mark.slow) for name in COMMANDS if name != "embed"),
        *(pytest.param(name, signal.SIGINT, marks=pytest.mark.slow) for name in COMMANDS if name != "classify"),
    ],
)
def test_a_stop_leaves_nothing_half_written(
    command: str, number: signal.Signals, stopped: Stopped, labeled: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    options = [str(option).replace("OUT", str(out)) for option in COMMANDS[command]]
    code, written, said = stopped(number, command, labeled, *NANO, "--device", "cpu", *options)
    by = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    assert (code, written) == (128 + number, "")
    assert said.splitlines()[-1] == f"convit: stopped by {by}; {REMOVED}"
    assert list(out.iterdir()) == []


@pytest.mark.slow
def test_an_explanation(stopped: Stopped, labeled: Path, tmp_path: Path) -> None:
    image, output = labeled / "cat" / "0.jpg", tmp_path / "out.png"
    assert stopped(signal.SIGTERM, "explain", image, *NANO, "-o", output)[0] == 143
    assert not output.exists()


@pytest.mark.slow
def test_an_index_keeps_what_was_embedded(stopped: Stopped, labeled: Path, tmp_path: Path) -> None:
    index = ("index", labeled, "--db", tmp_path / "db", *NANO, "--device", "cpu")
    code, written, said = stopped(signal.SIGTERM, *index)
    assert (code, written) == (143, "")
    assert said.splitlines()[-1] == "convit: stopped by SIGTERM; what was embedded is kept: index again to go on"
    done = subprocess.run(
        [sys.executable, "-m", "convit", *map(str, index)], capture_output=True, text=True, check=True
    )
    assert "20 images in" in done.stderr


@pytest.mark.slow
def test_fine_tuning_before_its_first_step(stopped: Stopped, labeled: Path, tmp_path: Path) -> None:
    code, written, said = stopped(signal.SIGTERM, "finetune", labeled, *NANO, "-o", tmp_path / "run")
    assert (code, written) == (143, "")
    assert said.splitlines()[-1].startswith("convit: stopped by SIGTERM")
    assert not list(tmp_path.rglob(".convit-*"))


@pytest.mark.slow
def test_a_benchmark(stopped: Stopped) -> None:
    code, written, said = stopped(
        signal.SIGINT, "benchmark", "--model", NANO[1], "--device", "cpu", "--against", "eager"
    )
    assert (code, written, said.splitlines()[-1]) == (130, "", f"convit: stopped by Ctrl-C; {REMOVED}")


@pytest.mark.parametrize("place", ["open_streams", "on_stderr", "close_streams"])
def test_ctrl_c_around_a_command(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(errors, place, interrupted)
    assert main(["models", "--format", "json"]) == 130
    assert capsys.readouterr().err == "convit: stopped by Ctrl-C\n"


_UNDER_NOHUP = """
import signal, subprocess, sys
stopping = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
for number in stopping:
    signal.signal(number, signal.SIG_IGN)
from tests.conftest import pytest_configure
pytest_configure()
print(signal.getsignal(signal.SIGHUP) is signal.SIG_DFL)
ask = "import signal, sys; print([int(signal.getsignal(int(each)) == signal.SIG_IGN) for each in sys.argv[1:]])"
sys.stdout.flush()
subprocess.run([sys.executable, "-c", ask, *(str(int(number)) for number in stopping)], check=True)
"""


def test_commands_of_tests_under_nohup_ignore_no_signal_and_pytest_outlives_its_terminal() -> None:
    line, root = [sys.executable, "-c", _UNDER_NOHUP], Path(__file__).parents[2]
    environment = os.environ | {"CONVIT_CHECK_SHAPES": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(line, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False", "[0, 0, 0]"]


# sends Ctrl-C to itself at one moment after the command's last line; what it stops is left as the system leaves it
_AT_ITS_END = """
import atexit, os, signal, sys, threading
from convit.cli import errors, main
place = sys.argv.pop(1)
def stop(*given):
    os.kill(os.getpid(), signal.SIGINT)
    os.getpid()
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
if place == "close_streams":
    errors.close_streams = stop
elif place == "atexit":
    atexit.register(stop)
elif place == "thread":
    threading.Thread(target=lambda: (threading.main_thread().join(), stop())).start()
code = main()
if place == "returned":
    stop()
sys.exit(code)
"""


@pytest.mark.parametrize("place", ["close_streams", "returned", "atexit", "thread"])
def test_ctrl_c_after_the_last_line(place: str) -> None:
    line = [sys.executable, "-c", _AT_ITS_END, place, "models", "--format", "json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    by_system, said = -signal.SIGINT, "convit: stopped by Ctrl-C\n"
    assert done.stdout.startswith("[")
    assert (done.returncode, done.stderr) == (130, said) if place == "close_streams" else (by_system, "")
