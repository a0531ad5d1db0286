"""`convit classify` and `convit embed` into a folder or an object store: one file for each shard of the inputs."""

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING

import typer

from convit.cli import errors, options
from convit.cli.job_options import JobOptions, check_engine
from convit.scale.jobs import FAILED, Job, begin, missing, parse_part, prepare, read_results, with_access
from convit.weights.progress import bar

if TYPE_CHECKING:
    from convit.scale.destination import Destination
    from convit.scale.engines import Done, LocalEngine, RayEngine

_MOST_NAMED = 10  # shards that could not be read


def run_job(job: Job, sources: Sequence[str], target: options.Target, given: JobOptions, *, recursive: bool) -> None:
    """Do the shards of a job that have no results yet, or one part of them.

    Raises:
        typer.Exit: with code 3 where shards or images could not be read.
        ValueError: options that do not go together, or results of another job.
    """
    from convit.images.listing import describe_left_out
    from convit.scale.destination import Destination
    from convit.scale.engines import Done
    from convit.scale.inputs import list_inputs
    from convit.scale.manifest import IMAGES_PER_SHARD

    if target.folder is None:
        raise ValueError("--shard, --engine, --update and their like need a folder or a URL for --output, such as out/")
    index, count = _check(job, given)
    part = f"{index}/{count}"
    destination = Destination(target.folder)
    errors.say_reading(*sources)
    left_out = Counter[str]()
    manifest = prepare(
        destination,
        sources,
        lambda: list_inputs(sources, recursive=recursive, left_out=left_out),
        update=given.update,
        images_per_shard=given.images_per_shard or IMAGES_PER_SHARD,
    )
    with _engine(given, job) as engine:
        manifest = begin(destination, manifest, engine.identity, update=given.update)
        if line := describe_left_out(left_out):
            errors.say(line)
        shards = manifest.shards[index::count]
        waiting = missing(destination, shards)
        done = Done(before=len(shards) - len(waiting))
        these = "" if count == 1 else f"part {part}: {len(shards):,} of "
        counts = f"{_counted(len(manifest.shards), 'shard')}, {done.before:,} done before, {len(waiting):,} to do"
        errors.say(these + counts)
        first = next((shard for shard, other in zip_longest(shards, waiting) if shard is not other), None)
        if first is not None:
            _, noted = read_results(destination, first.name, ["error"])
            if (other := noted.get("part", part)) != part:
                errors.say(f"some of them were done as part {other}; they stay")
        with bar("shards", len(waiting)) as advance:
            about = {**engine.identity, "part": part}
            for one in engine.run(destination, with_access(waiting, sources), about):
                done += one
                advance()
    _finish(destination, done)


def _check(job: Job, given: JobOptions) -> tuple[int, int]:
    """Refuse options that do not go together, and give the part that is to be done, see `parse_part`."""
    if job.options.precision == "int8":
        raise ValueError("int8 would take other ranges in every task; export the model with int8, and name the folder")
    job.options.check_shared()
    part = parse_part("0/1" if given.shard is None else given.shard)
    check_engine(given.engine, given.address)
    if given.engine == "ray" and given.shard is not None:
        raise ValueError("--engine ray does all shards; leave out --shard")
    return part


def _finish(destination: "Destination", done: "Done") -> None:
    """Say what came of a job, and end with code 3 where a shard or an image could not be read."""
    counts = {name: getattr(done, name) for name in ("images", "shards", "before", "unreadable")}
    options.print_result(None, {"output": str(destination), **counts, "failed": len(done.failed)})
    for name, reason in list(done.failed.items())[:_MOST_NAMED]:
        errors.tell(f"warning: shard {name}: {reason}")
    if done.failed:
        errors.tell(
            f"done, {_counted(len(done.failed), 'shard')} skipped (see {destination}/{FAILED}/); run again for them"
        )
        raise typer.Exit(errors.SOME_UNREADABLE)
    errors.leave_if_skipped(done.unreadable, None, destination, done.first_error)
    errors.say(f"done: {_counted(done.images, 'image')} in {_counted(done.shards, 'shard')}")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


@contextmanager
def _engine(given: JobOptions, job: Job) -> "Generator[LocalEngine | RayEngine]":
    from convit.scale.engines import LocalEngine, RayEngine
    from convit.scale.ray_cluster import ray_cluster

    if given.engine == "local":
        yield LocalEngine(job)
        return
    with ray_cluster("ray", address=given.address) as ray:
        yield RayEngine(job, ray)
