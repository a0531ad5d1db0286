"""An evaluation on Ray: actors score ranges of the images, and one process sums up, as with torchrun."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

from convit.evaluation import Evaluator, Processes
from convit.evaluation.evaluator import Scored
from convit.output.rows import Timings
from convit.scale.ray_cluster import share_out

_BATCHES = 64  # that an actor scores at a time


@dataclass(frozen=True, kw_only=True)
class RayProcesses(Processes):
    """Actors that share the images of one evaluation; batches are those that one process takes.

    Attributes:
        data: arguments of `convit.data.open_samples`, with which each actor opens them.
        model: arguments of `convit.evaluation.Evaluator`, with which it loads the model.
        calibrate: as in `Evaluator.evaluate`.
        ray: from `convit.scale.ray_cluster.ray_cluster`.
        batch_size: images at a time.
        advance: called after each image.
    """

    data: Mapping[str, Any]
    model: Mapping[str, Any]
    calibrate: bool = False
    ray: Any
    batch_size: int
    advance: Callable[[], None]

    def collect(self, score: Callable[[range], Any], total: int) -> list[Scored]:
        """What each actor has scored; this process has no share, and `score` is not called."""
        length, found = _BATCHES * self.batch_size, defaultdict[int, list[Scored]](list)
        ranges = [range(start, min(start + length, total)) for start in range(0, total, length)]
        make = partial(_open, self.data, self.model, calibrate=self.calibrate)
        for number, (rows, timings) in share_out(self.ray, str(self.model["options"].device), make, ranges):
            found[number].append((rows, timings))
            for _ in rows:
                self.advance()
        return [_together(parts) for parts in found.values()]


def _open(data: Mapping[str, Any], model: Mapping[str, Any], *, calibrate: bool) -> Callable[[range], Scored]:
    from convit.data import open_samples

    return partial(Evaluator(**model).score, open_samples(**data), calibrate=calibrate)


def _together(parts: list[Scored]) -> Scored:
    """What one actor found of all its ranges."""
    timings = Timings(*map(sum, zip(*(astuple(each) for _, each in parts), strict=True)))
    return [row for rows, _ in parts for row in rows], timings
