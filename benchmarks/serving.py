"""What the service costs beside the bare model, and how it holds up.

The service and the bare model (`Classifier` on the same encoded photograph) take turns on one core, the load comes from
another: processor time of an image at 32 connections and one at a time, p50 and p99 at 50 and 90 % of the highest load,
seconds until the service listens, and growth of its memory with bad requests mixed in. On one core, the ratio of the
processor times is that of throughputs; unlike wall time it does not tell which of the two has more threads to claim a
core that other programs want too. Medians of ratios.

    python benchmarks/serving.py
    python benchmarks/serving.py --model convit_base.fb_in1k --seconds 20
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PHOTO = Path(__file__).resolve().parents[1] / "examples" / "photos" / "cat.jpg"
MODEL = "convit_nano_patch4_32.cifar10"
CONNECTIONS = 32
BAD = (b"no image", b"\xff\xd8\xff cut off", b"")
_BARE = """
import sys, time
from convit.inference import Classifier
from pathlib import Path
_, name, image = sys.argv
model = Classifier(**{"weights" if Path(name).exists() else "model": name}, workers=0)
image = Path(image).read_bytes()
for _ in model.iterate([image] * 16): pass
print("ready", flush=True)
for line in sys.stdin:
    size, seconds = int(line.split()[0]), float(line.split()[1])
    taken, before, start = [], time.process_time(), time.perf_counter()
    while time.perf_counter() < start + seconds:
        began = time.perf_counter()
        model([image] * size)
        taken.append(time.perf_counter() - began)
    print((time.process_time() - before) / len(taken) / size, sorted(taken)[len(taken) // 2], flush=True)
"""


class Load(NamedTuple):
    """What came of some load: answers per second, and sorted seconds of each."""

    per_second: float
    seconds: list[float]

    def at(self, share: float) -> float:
        """The time within which a share of the requests was answered, seconds."""
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


@contextmanager
def on_core(core: int, *command: str, **pipes: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a Python program on one core, on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, *command], text=True, env=environment, **pipes)
    psutil.Process(process.pid).cpu_affinity([core])
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


async def ask(port: int, body: bytes, due: list[float] | None, ends: float, seconds: list[float]) -> None:
    """Send one image after the other through one connection: at once, or each when it is due."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    while time.perf_counter() < ends:
        start = time.perf_counter()
        if due is not None:
            if not due:
                break
            start = due.pop()
            await asyncio.sleep(start - time.perf_counter())
        writer.write(head + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answer)
        assert length is not None
        await reader.readexactly(int(length[1]))
        seconds.append(time.perf_counter() - start)  # from when it was due: a wait for a free connection counts
    writer.close()


def load(port: int, connections: int, duration: float, rate: float | None = None, body: bytes = b"") -> Load:
    """Load the service for some seconds; with a rate, by so many requests per second whatever it answers."""
    body = body or PHOTO.read_bytes()
    seconds: list[float] = []

    async def run() -> None:
        start = time.perf_counter()
        due = None if rate is None else [start + place / rate for place in reversed(range(int(rate * duration)))]
        await asyncio.gather(*(ask(port, body, due, start + duration, seconds) for _ in range(connections)))

    start = time.perf_counter()
    asyncio.run(run())
    return Load(len(seconds) / (time.perf_counter() - start), sorted(seconds))


def measure(model: str, duration: float, rounds: int, requests: int) -> dict[str, Any]:
    """Measure one model; gives the figures by name."""
    server_core, load_core = sorted(os.sched_getaffinity(0))[:2]
    psutil.Process().cpu_affinity([load_core])
    bare_pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    serve = ("-m", "convit", "serve", "--quiet", "--port", "0", "--model", model)
    start = time.perf_counter()
    with on_core(server_core, *serve, stderr=subprocess.PIPE) as service:
        assert service.stderr is not None
        port = int(next(found[1] for line in service.stderr if (found := re.search(r":(\d+)/$", line.strip()))))
        ready = time.perf_counter() - start
        with on_core(server_core, "-c", _BARE, model, str(PHOTO), **bare_pipes) as bare:
            assert bare.stdin is not None
            assert bare.stdout is not None
            bare.stdout.readline()
            many, single, rates, walls = [], [], [], []
            for _ in range(rounds):  # alternating, so that a busy machine is busy for both
                for connections, size, found in ((CONNECTIONS, 8, many), (1, 1, single)):
                    bare_cost, bare_wall = ask_bare(bare, size, duration)
                    before = processor_seconds(service.pid)
                    done = load(port, connections, duration)
                    found.append(((processor_seconds(service.pid) - before) / len(done.seconds), bare_cost))
                    if connections > 1:
                        rates.append(done.per_second)
                    else:
                        walls.append(done.at(0.5) - bare_wall)
        most = statistics.median(rates)
        at = {share: load(port, CONNECTIONS, 2 * duration, share / 100 * most) for share in (50, 90)}
        memory = measure_memory(port, service.pid, requests)
    return {
        "model": model,
        "ready_s": ready,
        "throughput": most,
        "image_ms": [1000 * statistics.median(each) for each in zip(*many, strict=True)],
        "share": statistics.median(bare_cost / served for served, bare_cost in many),
        "added_ms": 1000 * statistics.median(served - bare_cost for served, bare_cost in single),
        "added_wall_ms": 1000 * statistics.median(walls),
        "latency_ms": {share: [1000 * each.at(0.5), 1000 * each.at(0.99)] for share, each in at.items()},
        "memory": memory,
    }


def ask_bare(bare: subprocess.Popen[str], size: int, duration: float) -> tuple[float, float]:
    """Run the bare model in batches of a size; gives processor seconds of an image, and the median of a batch."""
    assert bare.stdin is not None
    assert bare.stdout is not None
    bare.stdin.write(f"{size} {duration}\n")
    bare.stdin.flush()
    cost, wall = bare.stdout.readline().split()
    return float(cost), float(wall)


def processor_seconds(pid: int) -> float:
    """What a process has used of its core, seconds."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def measure_memory(port: int, pid: int, requests: int) -> dict[str, float]:
    """Memory of the service over many requests, bad ones among them: MiB, and its growth after the first quarter."""
    process, found, sent = psutil.Process(pid), [], [0]
    for part in range(1, 21):
        while sent[-1] < requests * part // 20:
            loads = (load(port, 8, 2, body=PHOTO.read_bytes()), *(load(port, 8, 0.05, body=each) for each in BAD[:2]))
            done = sum(len(each.seconds) for each in loads)
            sent.append(sent[-1] + done)
            found.append(process.memory_info().rss / 2**20)
    settled = len(found) // 4
    xs, ys = sent[settled + 1 :], found[settled:]
    slope, start = statistics.linear_regression(xs, ys) if len(xs) > 2 else (0.0, ys[0])
    noise = statistics.pstdev(y - start - slope * x for x, y in zip(xs, ys, strict=True))
    return {
        "requests": sent[-1],
        "first_mib": ys[0],
        "last_mib": ys[-1],
        "growth_mib": slope * (xs[-1] - xs[0]),
        "noise_mib": noise,
    }


def write_table(file: Path, table: str) -> None:
    """Put a table in the place of the one with the same first line."""
    text, head = file.read_text("utf-8"), table.partition("\n")[0]
    before, _, after = text.partition(head + "\n")
    assert after, f"{file} has no table {head}"
    file.write_text(before + table + after[after.index("\n\n") + 1 :], "utf-8")


def main() -> None:
    """Measure what the command line asks for, and print it as a table and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--seconds", type=float, default=4, help="of each part of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20_000, help="over which memory is watched")
    parser.add_argument("--write", action="store_true", help="keep the table in serving.md, beside this script")
    given = parser.parse_args()
    found = measure(given.model, given.seconds, given.rounds, given.requests)
    latency, memory = found["latency_ms"], found["memory"]
    first, last, growth, noise = (memory[f"{name}_mib"] for name in ("first", "last", "growth", "noise"))
    lines = (
        ("ready after", f"{found['ready_s']:.1f} s"),
        (f"throughput, {CONNECTIONS} connections", f"{found['throughput']:.0f} images/s"),
        ("processor time of an image", f"{found['image_ms'][0]:.2f} ms"),
        ("the same of the bare model, batches of 8", f"{found['image_ms'][1]:.2f} ms"),
        ("share of the bare model's throughput", f"{100 * found['share']:.0f} %"),
        ("added to one image at a time, processor time", f"{found['added_ms']:.2f} ms"),
        ("added to one image at a time, median by the clock", f"{found['added_wall_ms']:.2f} ms"),
        *((f"at {share} % load, p50 and p99", f"{p50:.1f} and {p99:.1f} ms") for share, (p50, p99) in latency.items()),
        ("requests over which memory was watched", f"{memory['requests']:,}"),
        (
            "memory after the first quarter, and at the end",
            f"{first:.0f} and {last:.0f} MiB",
        ),
        ("growth along a line, and scatter about it", f"{growth:.1f} and {noise:.1f} MiB"),
    )
    name = Path(given.model).stem if Path(given.model).exists() else given.model
    table = "".join((f"| {name} | |\n| --- | --- |\n", *(f"| {each} | {value} |\n" for each, value in lines)))
    if given.write:
        write_table(Path(__file__).with_suffix(".md"), table)
    sys.stdout.write(table)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
