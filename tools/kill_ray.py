"""Kills workers, drivers and nodes of jobs on Ray, and looks for rows that are lost, duplicated or different.

    python tools/kill_ray.py [--kills 15] [--minutes 60] [--seed 0] [--what node] [--write]

`convit embed --engine ray` runs on a cluster of its own. A worker (the process of a Ray actor) is killed while shards
are being done, up to three in a run, which must finish by itself. A driver (the command) is killed in the same way, and
the command is started again. For nodes there is a cluster of a head, which does no shards, and two nodes, all on this
machine; the one that does shards is killed, with all its processes, and the command is started again if it fails. What
is there in the end is compared with what one process wrote. --write keeps the counts for docs/reliability.md. Needs the
extras `ray` and `test`, on Linux.
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
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.killing import Found, Result, apart, keep_rows, read_shards

MODEL = "convit_mini_patch8_64.tiny_imagenet"
IMAGES, PER_SHARD = 400, 8
KILLED = ("worker", "driver", "node")
FAULTS = ("lost or duplicated", "different", "did not finish")
LONGEST = 240  # seconds of one run
PER_RUN = 3  # workers


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
        # which Ray's actors have as well: products of matrices differ in the last bits with the number of threads
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, cwd=place, stdout=said, stderr=said, env=one_thread)


def results(out: Path) -> int:
    """Number of shards that are done."""
    return len(list(out.glob("[0-9]*.parquet")))


def workers(process: int) -> list[psutil.Process]:
    """The processes of the pool's actors below another."""
    try:
        below = psutil.Process(process).children(recursive=True)
        return [each for each in below if "PoolActor" in " ".join(each.cmdline())]
    except psutil.NoSuchProcess:
        return []


class Cluster:
    """A cluster of a head, which does no shards, and two nodes of one core, which listen on this machine only."""

    def __init__(self) -> None:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # nodes find each other on this machine alone
        from ray import cluster_utils

        self._own = {"node_ip_address": "127.0.0.1", "include_dashboard": False}
        self._cluster: Any = cluster_utils.Cluster(initialize_head=True, head_node_args={**self._own, "num_cpus": 0})
        self.options = ("--address", self._cluster.address)
        self.complete()

    def complete(self) -> None:
        """Start the nodes that are missing."""
        while len(self._cluster.worker_nodes) < 2:
            self._cluster.add_node(**self._own, num_cpus=1)

    def kill_busy_node(self) -> bool:
        """Kill one that does shards, with all its processes; False where there is none."""
        for node in self._cluster.worker_nodes:
            if workers(node.all_processes["raylet"][0].process.pid):
                self._cluster.remove_node(node, allow_graceful=False)
                return True
        return False


@contextmanager
def cluster_for(what: str) -> Generator[Cluster | None]:
    """What a job runs on: None for a cluster of its own."""
    if what != "node":
        yield None
        return
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster._cluster.shutdown()


def kill_worker(driver: subprocess.Popen[bytes]) -> bool:
    """Kill the process of one actor; False where there is none."""
    for worker in workers(driver.pid):
        try:
            worker.kill()
        except psutil.NoSuchProcess:  # it had been restarted
            continue
        return True
    return False


def kill_driver(driver: subprocess.Popen[bytes]) -> bool:
    """Kill the command once its actors work."""
    if not workers(driver.pid):
        return False
    os.kill(driver.pid, 9)
    return True


KILLS = {"worker": kill_worker, "driver": kill_driver}


def kill_one(kill: Callable[[], bool], driver: subprocess.Popen[bytes], out: Path, delay: float) -> bool:
    """Wait for the next shard, and a little more, then kill; False where the command has finished."""
    before, until = results(out), time.monotonic() + LONGEST
    while driver.poll() is None and time.monotonic() < until:
        if results(out) > before:
            time.sleep(delay)
            if driver.poll() is not None or results(out) * PER_SHARD >= IMAGES:
                return False
            if kill():
                return True
        time.sleep(0.01)
    return False


def check(out: Path, expected: Result, found: Found) -> None:
    """Compare the rows that are there in the end with those of one process."""
    missing, others, changed = apart(read_shards(out), expected)
    if missing or others:
        found.fault("lost or duplicated", f"{len(missing)} missing, {len(others)} too many")
    elif changed:
        found.fault("different", f"{len(changed)} rows, such as {changed[0]}")


def end_of(driver: subprocess.Popen[bytes]) -> int:
    """The exit code of a command, which has so much time left."""
    try:
        return driver.wait(LONGEST)
    except subprocess.TimeoutExpired:
        driver.kill()
        return driver.wait()


def kill_often(what: str, kills: int, seconds: float, place: Path, expected: Result, seed: str) -> Found:
    """Kill so many workers, drivers or nodes, in as many runs as that takes; each job is finished and checked."""
    found, out, until = Found(), place / what, time.monotonic() + seconds
    generator = random.Random(f"{seed} {what}")
    with cluster_for(what) as cluster:
        more = ("--engine", "ray", *(cluster.options if cluster else ()))
        while found.ended[what] < kills and time.monotonic() < until:
            if cluster:
                cluster.complete()
            driver = start(place, out, *more)
            found.runs += 1
            kill = cluster.kill_busy_node if cluster else partial(KILLS[what], driver)
            for _ in range(min(PER_RUN if what == "worker" else 1, kills - found.ended[what])):
                found.ended[what] += kill_one(kill, driver, out, generator.uniform(0, 0.5))
            code = end_of(driver)
            if code == 0:
                check(out, expected, found)
                shutil.rmtree(out)
            elif what == "worker" or code == 1:
                found.fault("did not finish", f"{code}: {(place / 'said.txt').read_text()[-300:]}")
                if len(found.told) > PER_RUN:
                    return found
        if out.exists():  # of the last that did not finish
            found.runs += 1
            if end_of(start(place, out, *more)) != 0:
                found.fault("did not finish", (place / "said.txt").read_text()[-300:])
            check(out, expected, found)
    return found


def write_found(found: dict[str, Found], command: str) -> None:
    """Keep the counts for docs/reliability.md."""
    about = (
        f"`convit embed --engine ray` ran on {IMAGES} images in shards of {PER_SHARD}, while Ray's worker processes, "
        "the command itself, or one of the cluster's two nodes with all its processes were stopped by SIGKILL. A run "
        "whose workers or nodes die must finish by itself; a command that is killed is run again. At the end, the rows "
        "are compared with those of a single process with one thread."
    )
    rows = [
        [f"Ray {what}", one.ended[what], one.runs, *(one.faults[kind] for kind in FAULTS), "to the bit"]
        for what, one in found.items()
    ]
    keep_rows("kill_ray", command, about, ("killed", "kills", "runs", *FAULTS, "compared"), rows, found.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; 1 where there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=15, help="of workers, of drivers, and of nodes")
    parser.add_argument("--minutes", type=float, default=60, help="of all together, at most")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--what", choices=KILLED, action="append", help="only this; can be repeated")
    parser.add_argument("--write", action="store_true", help="keep the counts for docs/reliability.md")
    given = parser.parse_args(arguments)
    found: dict[str, Found] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_images(place / "data")
        if start(place, place / "here").wait(LONGEST) != 0:
            raise RuntimeError((place / "said.txt").read_text())
        expected = read_shards(place / "here")
        kinds = given.what or KILLED
        for what in kinds:
            seconds = 60 * given.minutes / len(kinds)
            found[what] = kill_often(what, given.kills, seconds, place, expected, given.seed)
            found[what].show(f"{what}, {found[what].runs} runs")
            if given.write:
                write_found(found, f"python tools/kill_ray.py --kills {given.kills} --seed {given.seed} --write")
    return int(any(one.told for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
