"""How much a model's embeddings know: k-nearest-neighbour, linear and ridge probes, and few-shot curves.

The room promises: images are embedded once and kept, and what was kept is used only for the same weights, images,
preprocessing and precision; everything that is chosen is chosen on training images alone; every draw follows from a
seed and the labels, so that all models see the same images. Start reading at `probing.py`: `sets.py` says what is
trained and tested on, `embedded.py` and `cache.py` bring vectors, `task.py` lines up the classes of the two sets,
`nearest.py`, `logistic.py` and `ridge.py` are the probes, which choose among the values in `grids.py`; `few_shot.py`
makes the curves, `report.py` is what is kept, and `curves.py` the figure, which needs matplotlib.

Importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convit.lazy import import_when_used

if TYPE_CHECKING:
    from convit.evaluation.probes.cache import EmbeddingCache
    from convit.evaluation.probes.embedded import Embedded, embed_labelled, identify
    from convit.evaluation.probes.probing import check_probes, probe
    from convit.evaluation.probes.report import ProbeScore, Probing, ShotScore
    from convit.evaluation.probes.sets import ProbeSets, open_sets
    from convit.evaluation.probes.task import Task, make_task

_HOMES = {
    "Embedded": ".embedded",
    "EmbeddingCache": ".cache",
    "ProbeScore": ".report",
    "ProbeSets": ".sets",
    "Probing": ".report",
    "ShotScore": ".report",
    "Task": ".task",
    "check_probes": ".probing",
    "embed_labelled": ".embedded",
    "identify": ".embedded",
    "make_task": ".task",
    "open_sets": ".sets",
    "probe": ".probing",
}

__all__ = [
    "Embedded",
    "EmbeddingCache",
    "ProbeScore",
    "ProbeSets",
    "Probing",
    "ShotScore",
    "Task",
    "check_probes",
    "embed_labelled",
    "identify",
    "make_task",
    "open_sets",
    "probe",
]

__getattr__, __dir__ = import_when_used(__name__, _HOMES)
