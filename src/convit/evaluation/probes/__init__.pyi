from .embedded import Embedded, EmbeddingCache, embed_labeled, identify
from .probing import check_probes, probe
from .report import ProbeScore, Probing
from .sets import ProbeSets, open_sets
from .task import Task, make_task

__all__ = [
    "Embedded",
    "EmbeddingCache",
    "ProbeScore",
    "ProbeSets",
    "Probing",
    "Task",
    "check_probes",
    "embed_labeled",
    "identify",
    "make_task",
    "open_sets",
    "probe",
]
