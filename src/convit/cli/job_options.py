"""The options of a job: which part of it, what runs it, and how it is divided."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from convit.cli.options import Bundle
from convit.output.files import check_packages


@dataclass(frozen=True)
class JobOptions:
    """How a large job is divided, and what runs it; see `convit.scale`."""

    shard: str | None = None
    engine: str = "local"
    address: str | None = None
    update: bool = False
    images_per_shard: int | None = None


_SHARD = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Do the I-th of every N shards of a job, from 0, such as 7/64."),
]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option("--engine", help="What runs a job; ray: Ray on this machine or a cluster (extra 'ray')."),
]
Address = Annotated[
    str | None, typer.Option(metavar="HOST:PORT|auto", help="Ray cluster to use.  [default: one started here]")
]
_UPDATE = Annotated[bool, typer.Option("--update", help="Add new and changed inputs to a job that has begun.")]
_IMAGES_PER_SHARD = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Loose images per shard of a job.  [default: 4096]")
]
NO_JOB = JobOptions()
JobRun = Annotated[
    JobOptions,
    Bundle.of(
        NO_JOB,
        JobOptions,
        shard=_SHARD,
        engine=Engine,
        address=Address,
        update=_UPDATE,
        images_per_shard=_IMAGES_PER_SHARD,
    ),
]


def check_engine(engine: str, address: str | None) -> None:
    """Refuse an engine that is not installed, and an address without it."""
    if engine == "ray":
        check_packages("--engine ray", "ray", extra="ray")
    elif address is not None:
        raise ValueError("--address is a Ray cluster; add --engine ray")
