"""Ends commands at random moments, and looks for what is corrupt, lost, duplicated or left behind.

    python tools/kill.py [--kills 350] [--seed 0] [--command embed] [--write]

`embed`, `embed -o out/` (a job in shards; also into S3, on a server on this machine), `index` (also `--from` S3),
`finetune` and `train` run on small inputs and are ended by KILL, TERM or INT at moments drawn from a seed: a quarter of
them anywhere in a run, the others from where it begins to write.
After each the command is started again, with --resume where it has that, until it finishes; what it wrote is then
compared with what an undisturbed run wrote. --write keeps the counts for docs/reliability.md. Needs the extras for
training and search, on Linux.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.killing import (
    BUCKET,
    Found,
    Result,
    apart,
    bucket_files,
    keep_rows,
    read_bucket,
    read_shards,
    s3_server,
    vectors_named,
)

MODEL = "convit_nano_patch4_32.cifar10"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
FAULTS = ("corrupt", "lost or duplicated", "left behind", "exit code", "message")
LONGEST = 600  # seconds of one run
IMAGES = 96
SAID = "said.txt"  # what a command wrote on standard error
# processes are forked from one that has imported what takes the commands seconds, so that kills meet their work
SERVER = multiprocessing.get_context("forkserver")
HEAVY = ["torch", "convit.cli.app", "convit.inference.embedder", "convit.finetuning.run", "convit.training.run", "s3fs"]


@dataclass(frozen=True)
class Subject:
    """A command that is ended.

    Attributes:
        arguments: the command and what it is called with, in a folder that holds `data`, where it writes to `out`.
        read: what it has written so far, by name; raises where that is damaged.
        is_partial: whether a part of the result may be there, rather than all or nothing.
        resumes: whether it takes --resume once `out` is there.
        makes_folder: whether it makes `out` itself.
        in_bucket: whether it writes into the bucket instead, below out/.
        first: a command that is run once before, on `data`.
    """

    arguments: tuple[str, ...]
    read: Callable[[Path], Result]
    is_partial: bool = False
    resumes: bool = False
    makes_folder: bool = True
    in_bucket: bool = False
    first: tuple[str, ...] = ()


def read_vectors(out: Path) -> Result:
    """The rows of an archive of embeddings."""
    file = out / "vectors.npz"
    if not file.exists():
        return {}
    with np.load(file) as archive:
        return dict(zip(archive["paths"].tolist(), archive["embeddings"], strict=True))


def read_index(out: Path) -> Result:
    """The rows of an index."""
    import lancedb

    from convit.search.store import TABLE

    if not (out / f"{TABLE}.lance").exists():
        return {}
    return vectors_named(lancedb.connect(out).open_table(TABLE).to_arrow().to_pylist(), "vector")


def read_run(out: Path) -> Result:
    """The final weights of a training run, and which epochs it has logged; both only where the weights are there."""
    if not (out / "weights.safetensors").exists():
        return {}
    from safetensors.numpy import load_file

    lines = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return load_file(out / "weights.safetensors") | {"epochs": np.array([line["epoch"] for line in lines])}


def _sets(*changes: str) -> tuple[str, ...]:
    return tuple(word for change in changes for word in ("--set", change))


_ON_CPU = ("--device", "cpu", "--workers", "0", "--batch-size", "8")
_QUICK = _sets("data.workers=0", "run.checkpoint_steps=2", "run.precision=fp32")
_SHARDS = ("embed", "data", "--model", MODEL, *_ON_CPU, "--images-per-shard", "8", "-o")
SUBJECTS = {
    "embed": Subject(
        ("embed", "data", "--model", MODEL, "-o", "out/vectors.npz", *_ON_CPU, "--overwrite"),
        read_vectors,
        makes_folder=False,
    ),
    "embed -o out/": Subject((*_SHARDS, "out/"), read_shards, True),
    "embed -o s3://": Subject((*_SHARDS, f"s3://{BUCKET}/out/"), read_bucket, True, in_bucket=True),
    "index": Subject(
        ("index", "data", "--model", MODEL, "--db", "out", *_ON_CPU, "--commit-every", "8"), read_index, True
    ),
    "index --from s3://": Subject(
        ("index", "--from", f"s3://{BUCKET}/vectors/", "--db", "out"),
        read_index,
        True,
        first=(*_SHARDS, f"s3://{BUCKET}/vectors/"),
    ),
    "finetune": Subject(
        ("finetune", "data", "--model", MODEL, "-o", "out", "--epochs", "3", "--batch-size", "32", *_QUICK),
        read_run,
        resumes=True,
    ),
    "train": Subject(
        ("train", "small.yaml", "--data", "shards", "-o", "out", *_sets("schedule.epochs=6", "run.checkpoint_steps=3")),
        read_run,
        resumes=True,
    ),
}


def write_inputs(folder: Path) -> None:
    """Images of noise in two classes, and the recipe and shards of the training tests."""
    from tests.training.small import TEXT, write_data

    noise = np.random.default_rng(0)
    for number in range(IMAGES):
        file = folder / "data" / ("light", "dark")[number % 2] / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 128 + 127 * (number % 2), (32, 32, 3), np.uint8)).save(file)
    (folder / "small.yaml").write_text(TEXT, encoding="utf-8")
    write_data(folder / "shards")


def has_begun(name: str, folder: Path) -> bool:
    """Whether a command has written anything."""
    if SUBJECTS[name].in_bucket:
        return bool(bucket_files().find(f"{BUCKET}/out"))
    return (folder / "out").is_dir() and any((folder / "out").iterdir())


def clear(name: str, folder: Path) -> None:
    """Take away what a command has written."""
    if SUBJECTS[name].in_bucket:
        bucket_files().rm(f"{BUCKET}/out", recursive=True)
    else:
        shutil.rmtree(folder / "out")


def start(name: str, folder: Path) -> BaseProcess:
    """Start a command in a folder, with --resume where there is something to resume."""
    subject, out = SUBJECTS[name], folder / "out"
    if not subject.makes_folder:
        out.mkdir(exist_ok=True)
    more = ["--resume"] if subject.resumes and (out / "recipe.yaml").exists() else []
    return start_command([*subject.arguments, *more], folder)


def start_command(arguments: list[str], folder: Path) -> BaseProcess:
    """Start a command in a process of its own."""
    (folder / SAID).unlink(missing_ok=True)
    keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    process = SERVER.Process(target=run, args=(arguments, folder, keys))
    process.start()
    while process.is_alive() and not (folder / SAID).exists():  # what comes before is not the command's
        time.sleep(0.001)
    return process


def run(arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
    """What a child process does: the command, as its script does it."""
    from convit.cli import main
    from convit.search import vectors

    vectors._COMMIT_ROWS = 8  # of a few images, too, some are kept before the last
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    for number, file in ((0, os.devnull), (1, os.devnull), (2, SAID)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115
    sys.argv = ["convit", *arguments]
    sys.exit(main())


def finish(name: str, folder: Path) -> tuple[float, float]:
    """Run a command to its end.

    Returns:
        Seconds until it began to write, and until its end.

    Raises:
        RuntimeError: it failed.
    """
    began, writes = time.monotonic(), 0.0
    process = start(name, folder)
    while process.is_alive() and time.monotonic() - began < LONGEST:
        if not writes and has_begun(name, folder):
            writes = time.monotonic() - began
        time.sleep(0.005)
    process.kill()
    process.join()
    if process.exitcode != 0:
        raise RuntimeError(f"{name} ended with {process.exitcode}: {(folder / SAID).read_text()[-300:]}")
    return writes, time.monotonic() - began


def litter(folder: Path) -> set[Path]:
    """Temporary files in a folder, and unfinished uploads to the bucket."""
    found = {file for file in folder.rglob("*") if file.name.startswith(".convit-") or file.suffix in (".part", ".tmp")}
    if "AWS_ENDPOINT_URL" in os.environ:
        uploads = bucket_files().call_s3("list_multipart_uploads", Bucket=BUCKET).get("Uploads", ())
        found |= {Path(BUCKET, f"{each['Key']} (unfinished upload)") for each in uploads}
    return found


def end_one(name: str, folder: Path, number: signal.Signals, delay: float, found: Found) -> bool:
    """Start a command, end it after a while, and check what it left; False where it had finished before."""
    before = litter(folder)
    process = start(name, folder)
    process.join(delay)
    if process.is_alive():
        assert process.pid is not None
        os.kill(process.pid, number)
    process.join(LONGEST)
    if process.exitcode is None:
        process.kill()
        found.fault("exit code", f"{name} did not end {LONGEST} s after {number.name}")
    code, errors = process.exitcode, (folder / SAID).read_text(encoding="utf-8")
    if code == 0:
        return False
    found.ended[number.name] += 1
    where = f"{name}, {number.name} after {delay:.2f} s"
    # a signal that comes before the command takes it ends the process as the system does
    if code not in ({-number} if number == signal.SIGKILL else {128 + number, -number}):
        found.fault("exit code", f"{where}: {code}, {errors[-300:]}")
    said = [line for line in errors.splitlines() if "stopped" in line]
    if "Traceback" in errors or (code == 128 + number and len(said) != 1):
        found.fault("message", f"{where}: {errors[-300:]}")
    if number != signal.SIGKILL and (new := litter(folder) - before):
        found.fault("left behind", f"{where}: {', '.join(sorted(file.name for file in new))}")
    return True


def check(name: str, folder: Path, expected: Result, found: Found, *, is_whole: bool) -> None:
    """Compare what is there with what an undisturbed run wrote."""
    try:
        result = SUBJECTS[name].read(folder / "out")
    except Exception as error:
        found.fault("corrupt", f"{name}: {type(error).__name__}: {error}")
        return
    missing, others, changed = apart(result, expected)
    if changed:
        found.fault("corrupt", f"{name}: {len(changed)} values such as {changed[0]} are not those of a whole run")
    if others or (missing and (is_whole or (result and not SUBJECTS[name].is_partial))):
        found.fault("lost or duplicated", f"{name}: {len(missing)} missing, {len(others)} too many")
    if is_whole and (left := litter(folder)):
        found.fault("left behind", f"{name} at its end: {', '.join(sorted(file.name for file in left))}")


def kill_often(name: str, kills: int, generator: random.Random, place: Path, seconds: float) -> Found:
    """End a command so many times, or as often as there is time for, and let it finish in between whenever it can."""
    found, folder, until = Found(), Path(tempfile.mkdtemp(dir=place)), time.monotonic() + seconds
    write_inputs(folder)
    if first := SUBJECTS[name].first:
        start_command(list(first), folder).join()
    finish(name, folder)
    expected = SUBJECTS[name].read(folder / "out")
    clear(name, folder)
    # the first run also waited for the imports
    writes, whole = finish(name, folder)
    check(name, folder, expected, found, is_whole=True)
    clear(name, folder)
    while sum(found.ended.values()) < kills and time.monotonic() < until:
        number = generator.choice(SIGNALS)
        delay = generator.uniform(0 if generator.random() < 0.25 else writes, whole)
        if end_one(name, folder, number, delay, found):
            check(name, folder, expected, found, is_whole=False)
            whole *= 1.05
        else:
            check(name, folder, expected, found, is_whole=True)
            clear(name, folder)
            whole = max(0.8 * whole, writes)  # the machine is quicker than it was, or less was left to do
    try:
        finish(name, folder)
    except RuntimeError as error:
        found.fault("lost or duplicated", f"it cannot go on: {error}")
    else:
        check(name, folder, expected, found, is_whole=True)
    return found


def write_found(found: dict[str, Found], kills: int, seed: int) -> None:
    """Keep the counts for docs/reliability.md; those of commands that were not run this time stay."""
    columns = ("command", *(number.name for number in SIGNALS), *FAULTS)
    rows = [
        [f"`{name}`", *(each.ended[number.name] for number in SIGNALS), *(each.faults[kind] for kind in FAULTS)]
        for name, each in found.items()
    ]
    about = (
        "Commands were stopped by SIGKILL, SIGTERM and SIGINT at random moments, three quarters of them while they "
        "were writing, and restarted until they finished. Every run is counted whose files were damaged, whose rows, "
        "epochs or weights differ from an undisturbed run's in a single bit, that left a temporary file or an "
        "unfinished upload behind (after SIGKILL: one that its next run did not remove), or whose message or exit "
        "code was wrong (it should be 143 or 130, or the system's own before the command handles the signal)."
    )
    # a share of all commands is the same, whether they were run together or one by one
    command = f"python tools/kill.py --kills {kills * len(SUBJECTS) // len(found)} --seed {seed} --write"
    keep_rows("kill", command, about, columns, rows, found.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool; 1 where there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=350, help="of all commands together")
    parser.add_argument("--minutes", type=float, default=240, help="of all commands together, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", choices=SUBJECTS, action="append", help="only this one; can be repeated")
    parser.add_argument("--write", action="store_true", help="keep the counts for docs/reliability.md")
    given = parser.parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    SERVER.set_forkserver_preload(HEAVY)
    names = given.command or list(SUBJECTS)
    found: dict[str, Found] = {}
    seconds = 60 * given.minutes / len(names)
    with tempfile.TemporaryDirectory() as place, s3_server():
        for number, name in enumerate(names):
            share = given.kills * (number + 1) // len(names) - given.kills * number // len(names)
            found[name] = kill_often(name, share, random.Random(f"{given.seed} {name}"), Path(place), seconds)
            found[name].show(name)
    if given.write:
        write_found(found, given.kills, given.seed)
    return int(any(each.told for each in found.values()))


if __name__ == "__main__":
    sys.exit(main())
