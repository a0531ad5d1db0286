from .comparing import Comparison, compare, write_comparison
from .evaluator import Evaluator
from .labeled import (
    ClassName,
    EvenlySpaced,
    LabeledFolder,
    LabeledImage,
    LabeledImages,
    LabeledShards,
    evenly_spaced,
    open_labeled,
)
from .matching import competing_classes, match_classes
from .page import check_report, write_report
from .processes import Processes, join_processes, own_device
from .report import Evaluation, write_table
from .scoring import Outcome, Scores, Tally, score_image

__all__ = [
    "ClassName",
    "Comparison",
    "Evaluation",
    "Evaluator",
    "EvenlySpaced",
    "LabeledFolder",
    "LabeledImage",
    "LabeledImages",
    "LabeledShards",
    "Outcome",
    "Processes",
    "Scores",
    "Tally",
    "check_report",
    "compare",
    "competing_classes",
    "evenly_spaced",
    "join_processes",
    "match_classes",
    "open_labeled",
    "own_device",
    "score_image",
    "write_comparison",
    "write_report",
    "write_table",
]
