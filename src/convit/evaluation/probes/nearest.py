"""The k-nearest-neighbor probe: training images vote for their class, the more alike the louder.

Source: DINO (Caron et al. 2021, arXiv 2104.14294), Appendix F.1, after Wu et al. 2018 (arXiv 1805.01978): cosine
similarity, votes weighted by exp(similarity / 0.07). Differs: k is chosen on training images alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from convit.evaluation.probes.grids import NEIGHBORS
from convit.evaluation.probes.linear import CHUNK, chunks
from convit.evaluation.probes.report import ProbeScore
from convit.evaluation.probes.scores import rank_right, top
from convit.evaluation.probes.task import Task

TEMPERATURE = 0.07
MOST_QUERIES = 10_000
_MOST_SIMILARITIES = 1 << 25  # computed at a time: 128 MiB
_ALONE = -2.0  # below every cosine


def probe_nearest(task: Task, *, device: torch.device, seed: int = 0) -> ProbeScore:
    """Choose k on the training images, each left out in turn, and test it.

    Of more than 10,000 training images 10,000 are left out in turn; all of them vote.

    Args:
        task: the images.
        device: where to compute.
        seed: of the images that are left out in turn, and of the bootstrap.

    Returns:
        The figures.
    """
    start = perf_counter()
    train = _units(task.train, device)
    labels = torch.from_numpy(task.train_labels).to(device)
    tried = [k for k in NEIGHBORS if k < len(labels)] or [1]
    queries = np.random.default_rng(seed).permutation(len(labels))[:MOST_QUERIES]
    left_out = torch.from_numpy(np.sort(queries)).to(device)
    alone = _ranks(train, labels, train[left_out], labels[left_out], tried, task.classes, left_out)
    held = {k: top(ranks) for k, ranks in zip(tried, alone, strict=True)}
    chosen = max(tried, key=lambda k: held[k])  # the first, and smallest, of equals
    test_labels = torch.from_numpy(task.test_labels).to(device)
    test = _units(task.test, device)
    tested = dict(zip(tried, _ranks(train, labels, test, test_labels, tried, task.classes), strict=True))
    return ProbeScore.of(
        tested[chosen],
        seed,
        start,
        probe="knn",
        setting="k",
        chosen=chosen,
        chosen_by=f"leaving out each of {len(left_out):,} of the {len(labels):,} training images in turn",
        tried=tuple(
            {"k": k, "validation_top1": held[k], "test_top1": top(tested[k]), "test_top5": top(tested[k], 5)}
            for k in tried
        ),
    )


def unit(vectors: Float32[Tensor, "images dim"]) -> Float32[Tensor, "images dim"]:
    """The vectors at length 1; one of zeros stays as it is, alike to none."""
    return torch.nn.functional.normalize(vectors, dim=1)


def _units(vectors: Float32[np.ndarray, "images dim"], device: torch.device) -> Float32[Tensor, "images dim"]:
    """The same of vectors that may lie on disk, a part at a time: there is one copy of them, and not two."""
    found = torch.empty(vectors.shape, dtype=torch.float32, device=device)
    for place, part in zip(found.split(CHUNK), chunks(vectors), strict=True):
        place.copy_(unit(part.to(device)))
    return found


def _ranks(
    train: Float32[Tensor, "train dim"],
    labels: Int64[Tensor, " train"],
    queries: Float32[Tensor, "queries dim"],
    right: Int64[Tensor, " queries"],
    tried: Sequence[int],
    classes: int,
    left_out: Int64[Tensor, " queries"] | None = None,
) -> list[Int64[np.ndarray, " queries"]]:
    """Rank of each query's right class for each k; a class without a vote stands behind all others.

    `left_out` is the row of each query among the training images, which has no vote then.
    """
    found: list[list[Tensor]] = [[] for _ in tried]
    for begin in range(0, len(queries), rows := max(1, _MOST_SIMILARITIES // len(train))):
        chunk = slice(begin, begin + rows)
        similarity = queries[chunk] @ train.T
        if left_out is not None:
            similarity.scatter_(1, left_out[chunk, None], _ALONE)
        near, places = similarity.topk(min(tried[-1], len(train)))
        # relative to the nearest: no exponent overflows, and all votes of a query change by the same factor
        votes = ((near - near[:, :1]) / TEMPERATURE).exp()
        voters = labels[places]
        for ranks, k in zip(found, tried, strict=True):
            counted = votes.new_zeros(len(near), classes).scatter_add_(1, voters[:, :k], votes[:, :k])
            rank = rank_right(counted, right[chunk])
            unheard = counted.gather(1, right[chunk, None])[:, 0] == 0
            ranks.append(rank.masked_fill(unheard, classes))
    return [torch.cat(ranks).cpu().numpy().astype(np.int64) for ranks in found]
