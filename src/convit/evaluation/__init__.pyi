from .comparing import Comparison, compare, write_comparison
from .evaluator import Evaluator
from .matching import competing_classes, match_classes
from .page import check_report, write_report
from .processes import Processes, join_processes, own_device
from .report import Evaluation, write_table
from .scoring import Outcome, Scores, score_image

__all__ = [
    "Comparison",
    "Evaluation",
    "Evaluator",
    "Outcome",
    "Processes",
    "Scores",
    "check_report",
    "compare",
    "competing_classes",
    "join_processes",
    "match_classes",
    "own_device",
    "score_image",
    "write_comparison",
    "write_report",
    "write_table",
]
