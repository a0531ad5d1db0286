"""Kills workers and drivers of jobs on Ray, and looks for rows that are lost, duplicated or different.

    python tools/kill_ray.py [--kills 15] [--minutes 60] [--seed 0] [--write]

`convit embed --engine ray` runs on a cluster of its own. A worker (the process of a Ray actor) is killed while shards
are being done, up to three in a run, which must finish by itself. A driver (the command) is killed in the same way, and
the command is started again. What is there in the end is compared with what one process wrote. --write keeps the counts
for docs/reliability.md. Needs the extras `ray` and `test`, on Linux.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from docs.make_reliability import keep
from tools.kill import Result, read_shards

MODEL = "convit_mini_patch8_64.tiny_imagenet"
IMAGES, PER_SHARD = 400, 8
KILLED = ("worker", "driver")
FAULTS = ("lost or duplicated", "different", "did not finish")
LONGEST = 240  # seconds of one run
PER_RUN = 3  # workers
LAST_BITS = 1e-5  # by which a vector may differ between processes: products of matrices depend on where they lie


@dataclass
class Found:
    """What became of the jobs.

    Attributes:
        kills: processes that were killed.
        runs: runs that this took.
        faults: number of each of `FAULTS`.
        told: a line for each fault.
    """

    kills: int = 0
    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    told: list[str] = field(default_factory=list[str])

    def fault(self, kind: str, line: str) -> None:
        """Count one."""
        self.faults[kind] += 1
        self.told.append(f"{kind}: {line}")


def write_images(folder: Path) -> None:
    """Small images of noise."""
    noise = np.random.default_rng(0)
    folder.mkdir()
    for number in range(IMAGES):
        Image.fromarray(noise.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / f"{number:04}.png")


def start(place: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start the command; what it says lies in said.txt."""
    options = ("--model", MODEL, "--workers", "0", "--batch-size", "4", "--images-per-shard", str(PER_SHARD))
    command = [sys.executable, "-m", "convit", "embed", "data", *options, "-o", f"{out}/", *more]
    with (place / "said.txt").open("wb") as said:
        return subprocess.Popen(command, cwd=place, stdout=said, stderr=said)


def results(out: Path) -> int:
    """Number of shards that are done."""
    return len(list(out.glob("[0-9]*.parquet")))


def workers(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes of the pool's actors."""
    try:
        below = psutil.Process(driver.pid).children(recursive=True)
        return [each for each in below if "Shards" in " ".join(each.cmdline())]
    except psutil.NoSuchProcess:
        return []


def kill_one(what: str, driver: subprocess.Popen[bytes], out: Path, delay: float) -> bool:
    """Wait for the next shard, and a little more, then kill a worker or the driver; False where it has finished."""
    before, until = results(out), time.monotonic() + LONGEST
    while driver.poll() is None and time.monotonic() < until:
        there = workers(driver)
        if results(out) > before and there:
            time.sleep(delay)
            if driver.poll() is not None or results(out) * PER_SHARD >= IMAGES:
                return False
            target = driver.pid if what == "driver" else there[0].pid
            try:
                os.kill(target, 9)
            except ProcessLookupError:  # the actor had been restarted
                continue
            return True
        time.sleep(0.01)
    return False


def check(out: Path, expected: Result, found: Found) -> None:
    """Compare the rows that are there in the end with those of one process."""
    result = read_shards(out)
    if result.keys() != expected.keys():
        more, missing = len(result.keys() - expected.keys()), len(expected.keys() - result.keys())
        found.fault("lost or duplicated", f"{missing} missing, {more} too many")
        return
    apart = [name for name in expected if not np.allclose(result[name], expected[name], rtol=0, atol=LAST_BITS)]
    if apart:
        found.fault("different", f"{len(apart)} rows, such as {apart[0]}")


def kill_often(what: str, kills: int, seconds: float, place: Path, expected: Result, seed: str) -> Found:
    """Kill so many workers or drivers, in as many runs as that takes; each job is finished and checked."""
    found, out, until = Found(), place / what, time.monotonic() + seconds
    generator = random.Random(f"{seed} {what}")
    while found.kills < kills and time.monotonic() < until:
        driver = start(place, out, "--engine", "ray")
        found.runs += 1
        for _ in range(min(PER_RUN if what == "worker" else 1, kills - found.kills)):
            found.kills += kill_one(what, driver, out, generator.uniform(0, 0.5))
        try:
            driver.wait(LONGEST)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()
        if driver.returncode == 0:
            check(out, expected, found)
            shutil.rmtree(out)
        elif what == "worker" or driver.returncode != -9:
            found.fault("did not finish", f"{driver.returncode}: {(place / 'said.txt').read_text()[-300:]}")
            if len(found.told) > PER_RUN:
                return found
    if out.exists():  # of the last driver that was killed
        found.runs += 1
        if start(place, out, "--engine", "ray").wait(LONGEST) != 0:
            found.fault("did not finish", (place / "said.txt").read_text()[-300:])
        check(out, expected, found)
    return found


def write_found(found: dict[str, Found], command: str) -> None:
    """Keep the counts for docs/reliability.md."""
    about = (
        f"`convit embed --engine ray` on {IMAGES} images in shards of {PER_SHARD}; the processes of Ray's workers, and "
        "the command itself, were ended by SIGKILL while shards were being done. A run whose workers die must finish "
        "by itself; a command that is killed is run again. In the end rows are compared with those of one process, "
        f"values to {LAST_BITS:g}: undisturbed runs on Ray differ from one process in the last bits of a few rows, too."
    )
    rows = [[f"Ray {what}", one.kills, one.runs, *(one.faults[kind] for kind in FAULTS)] for what, one in found.items()]
    told = [line for one in found.values() for line in one.told]
    keep("kill_ray", command, about, ("killed", "kills", "runs", *FAULTS), rows, told)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; 1 where there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=15, help="of workers, and of drivers")
    parser.add_argument("--minutes", type=float, default=60, help="of both together, at most")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--write", action="store_true", help="keep the counts for docs/reliability.md")
    given = parser.parse_args(arguments)
    found: dict[str, Found] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_images(place / "data")
        if start(place, place / "here").wait(LONGEST) != 0:
            raise RuntimeError((place / "said.txt").read_text())
        expected = read_shards(place / "here")
        for what in KILLED:
            found[what] = one = kill_often(what, given.kills, 30 * given.minutes, place, expected, given.seed)
            print(f"{what}: {one.kills} killed in {one.runs} runs; {sum(one.faults.values())} faults", flush=True)
            print(*(f"  {line}\n" for line in one.told), sep="", end="")
            if given.write:
                write_found(found, f"python tools/kill_ray.py --kills {given.kills} --seed {given.seed} --write")
    return int(any(one.told for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
