"""Damages small valid files at random and reads them as commands do: what is not refused in a documented way is shown.

    python tools/fuzz.py [--inputs N] [--seed S] [--kinds images,safetensors,…] [--output docs/reliability]

Inputs are read in worker processes with limits: 5 s of computing (60 s by the clock) and 1 GiB of memory an input. An
input is made from the seed, its kind and its number alone, so that `--only KIND:NUMBER` repeats one, with a traceback;
`--keep FOLDER` writes those that failed.

An input fails if the error is not one that `convit` documents (at the command line it would be called "unexpected"), if
its message is longer than 2,000 characters, if the process crashes, or if a limit is exceeded.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import json
import os
import random
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from convit.cli.errors import _raised_here, describe
from docs.make_reliability import keep
from tools.fuzz_inputs import KINDS, damage_bytes

SECONDS = 5.0  # of computing for an input
CLOCK_SECONDS = 60.0  # until a process that computes nothing is ended
MEMORY = 2**30  # bytes beyond what a worker holds before its first input
ADDRESSES = 6 * 2**30  # bytes of addresses beyond those; libraries reserve more than they use
LONGEST_MESSAGE = 2000
BATCH = 1000  # inputs per worker process
SHOWN = 20
ABOUT = """{inputs:,} valid files, damaged at random and read the way commands read them: bytes flipped,
overwritten, dropped and repeated; values inside JSON, YAML and headers replaced, with checksums corrected. A file fails
if its error is not a documented one, if the message is longer than {longest:,} characters, or if the process crashes,
computes for more than {seconds:g} s or uses more than {memory:,} MiB."""


@dataclass
class Result:
    """What became of the inputs of one kind.

    Attributes:
        inputs: how many were read.
        accepted: of these, how many were read without an error.
        refused: how many ended in a documented error.
        fallen: what went wrong with the others: kind of failure → number of inputs.
        examples: the first of them, "number: what happened".
        peak_mib: the most memory that a worker took beyond its start.
        slowest_seconds: the most computing that an input took.
    """

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    fallen: dict[str, int] = field(default_factory=dict[str, int])
    examples: list[str] = field(default_factory=list[str])
    peak_mib: float = 0.0
    slowest_seconds: float = 0.0

    def note(self, number: int, outcome: str, text: str, seconds: float = 0.0, peak: int = 0) -> None:
        """Take note of an input: what `judge` says of it, the seconds that it took, and the worker's peak in bytes."""
        self.inputs += 1
        self.slowest_seconds = round(max(self.slowest_seconds, seconds), 2)
        self.peak_mib = round(max(self.peak_mib, peak / 2**20), 1)
        if outcome == "accepted":
            self.accepted += 1
        elif outcome == "refused":
            self.refused += 1
        else:
            self.fallen[outcome] = self.fallen.get(outcome, 0) + 1
            if len(self.examples) < SHOWN:
                self.examples.append(f"{number}: {outcome}: {text[:300]}")


def make_input(kind: str, seed: int, number: int) -> tuple[str, bytes]:
    """The suffix and the content of one damaged file; the same for the same arguments."""
    chance = random.Random(f"{seed} {kind} {number}")
    if kind not in _SEEDS:
        _SEEDS[kind] = KINDS[kind].seeds()
    suffix, content = chance.choice(_SEEDS[kind])
    damage = chance.choice((damage_bytes, *KINDS[kind].damages))
    return suffix, damage(content, chance)


_SEEDS: dict[str, list[tuple[str, bytes]]] = {}


def judge(kind: str, path: Path) -> tuple[str, str]:
    """Read one file: ("accepted" or "refused", "") or a kind of failure and what happened."""
    try:
        KINDS[kind].read(path)
    except Exception as error:
        _, message = describe(error)
        foreign = type(error) is OSError and not _raised_here(error)
        if message.startswith("unexpected ") or foreign or isinstance(error, MemoryError):
            return "undocumented", f"{type(error).__name__}: {error}"
        return ("message", message) if len(message) > LONGEST_MESSAGE else ("refused", "")
    return "accepted", ""


def run(kind: str, numbers: range, seed: int, result: Result, keep: Path | None = None) -> None:
    """Read damaged files of one kind in worker processes, one after the other, and add up what became of them."""
    make_input(kind, seed, 0)  # the seeds, once for all workers
    first, known = numbers.start, len(result.examples)
    while first < numbers.stop:
        first = _run_batch(kind, range(first, min(first + BATCH, numbers.stop)), seed, result)
    for example in result.examples[known:] if keep is not None else ():
        suffix, content = make_input(kind, seed, number := int(example.partition(":")[0]))
        (keep / f"{kind}-{seed}-{number}{suffix}").write_bytes(content)


def _run_batch(kind: str, numbers: range, seed: int, result: Result) -> int:
    """Read inputs in one process until they are done or it ends early; give the number to go on with."""
    reading, writing = os.pipe()
    if (process := os.fork()) == 0:
        os.close(reading)
        try:
            _work(kind, numbers, seed, writing)
        finally:
            os._exit(1)
    os.close(writing)
    current = numbers.start
    for line in _lines_of(process, reading):
        result.note(current, *json.loads(line))
        current += 1
    _, status = os.waitpid(process, 0)
    if not status:
        return current
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    name = signal.Signals(number).name if number else f"exit code {os.waitstatus_to_exitcode(status)}"
    result.note(current, "hang" if name in ("SIGPROF", "SIGALRM") else "crash", name)
    return current + 1


def _lines_of(process: int, reading: int) -> Iterator[bytes]:
    """The lines that a worker writes, one for each input; one that computes nothing for a minute is ended."""
    waiting = b""
    while True:
        ready, _, _ = select.select([reading], [], [], CLOCK_SECONDS)
        if not ready:
            os.kill(process, signal.SIGALRM)
        elif more := os.read(reading, 65536):
            *lines, waiting = (waiting + more).split(b"\n")
            yield from lines
        else:
            os.close(reading)
            return


def _work(kind: str, numbers: range, seed: int, writing: int) -> None:
    """A worker's life: it never returns."""
    warnings.simplefilter("ignore")
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    for number in (signal.SIGPROF, signal.SIGALRM):  # end the process, whatever library is computing
        signal.signal(number, signal.SIG_DFL)
    signal.alarm(0)
    ctypes.CDLL(None).malloc_trim(0)  # memory that is free but held would hide what an input takes
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is the parent's
    start = _peak()
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    peak = 0
    faulthandler.disable()
    with tempfile.TemporaryDirectory(prefix="convit-fuzz-") as folder:
        for number in numbers:
            suffix, content = make_input(kind, seed, number)
            path = Path(folder, f"input{suffix}")
            path.write_bytes(content)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            begun = time.process_time()
            outcome, text = judge(kind, path)
            signal.setitimer(signal.ITIMER_PROF, 0)
            seconds, grown = time.process_time() - begun, _peak() - start
            if grown > max(peak, MEMORY):
                outcome, text = "memory", f"{grown / 2**20:.0f} MiB"
            peak = max(peak, grown)
            os.write(writing, json.dumps([outcome, text[:300], seconds, peak]).encode() + b"\n")
    os._exit(0)


def _peak() -> int:
    """The most memory that this process has held, bytes."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024


def _repeat(kind: str, seed: int, number: int) -> None:
    suffix, content = make_input(kind, seed, number)
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder, f"input{suffix}")).write_bytes(content)
        try:
            print("read:", KINDS[kind].read(path))
        except Exception:
            traceback.print_exc()


def _show(kind: str, result: Result) -> None:
    counts = f"{result.accepted:,} read, {result.refused:,} refused, {sum(result.fallen.values())} failed"
    print(f"{kind}: {result.inputs:,} inputs: {counts}; {result.slowest_seconds} s, {result.peak_mib} MiB at most")
    for example in result.examples:
        print(f"  {example}")


def _keep(results: dict[str, Result], seed: int, folder: Path) -> None:
    columns = ("kind", "inputs", "read", "refused", "failed", "most s", "most MiB")
    rows = [
        (kind, each.inputs, each.accepted, each.refused, sum(each.fallen.values()), each.slowest_seconds, each.peak_mib)
        for kind, each in results.items()
    ]
    inputs = sum(each.inputs for each in results.values())
    about = ABOUT.format(inputs=inputs, seconds=SECONDS, memory=MEMORY >> 20, longest=LONGEST_MESSAGE)
    notes = [f"{kind} {example}" for kind, each in results.items() for example in each.examples]
    keep("fuzz", f"python tools/fuzz.py --inputs {inputs} --seed {seed}", about, columns, rows, notes, folder)


def main() -> None:
    """Go round the kinds until all inputs are read; the results so far are written all the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=7000, help="damaged files over all kinds (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(KINDS), help="comma-separated (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="folder for fuzz.json, which docs/make_reliability.py reads")
    parser.add_argument("--keep", type=Path, help="existing folder for the first inputs that failed")
    parser.add_argument("--only", metavar="KIND:NUMBER", help="read this input in this process")
    options = parser.parse_args()
    if options.only:
        kind, _, number = options.only.partition(":")
        _repeat(kind, options.seed, int(number))
        return
    results = {kind: Result() for kind in options.kinds.split(",")}
    each = -(-options.inputs // len(results))
    for first in range(0, each, BATCH):
        for kind, result in results.items():
            run(kind, range(first, min(first + BATCH, each)), options.seed, result, options.keep)
            if options.output:
                _keep(results, options.seed, options.output)
    for kind, result in results.items():
        _show(kind, result)
    sys.exit(any(result.fallen for result in results.values()))


if __name__ == "__main__":
    main()
