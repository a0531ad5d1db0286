"""How good a model is on labelled images: accuracies, calibration and loss, with everything needed to measure again.

The room promises: every image is counted once or named as unreadable; labels that do not fit the model's classes are
refused before anything runs; a result names its weights and its data by sha256. Start reading at
`convit.evaluation.evaluator`: `labelled/` says where images and labels come from, `matching.py` which class of the
model a label means, `scoring.py` what is computed of each image, `figures.py` what of all of them, and `report.py` what
is kept; `page.py` shows it, `comparing.py` tells two results apart, `processes.py` shares the images out. `probes/`
trains probes on embeddings.

Importing this package imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convit.lazy import import_when_used

if TYPE_CHECKING:
    from convit.evaluation.comparing import Comparison, compare, write_comparison
    from convit.evaluation.evaluator import Evaluator
    from convit.evaluation.labelled import (
        ClassName,
        EvenlySpaced,
        LabelledFolder,
        LabelledImage,
        LabelledImages,
        LabelledShards,
        evenly_spaced,
        open_labelled,
    )
    from convit.evaluation.matching import competing_classes, match_classes
    from convit.evaluation.page import check_report, write_report
    from convit.evaluation.processes import Processes, join_processes, own_device
    from convit.evaluation.report import Evaluation, write_table
    from convit.evaluation.scoring import Outcome, Scores, Tally, score_image

_HOMES = {
    "ClassName": ".labelled",
    "Comparison": ".comparing",
    "Evaluation": ".report",
    "Evaluator": ".evaluator",
    "EvenlySpaced": ".labelled",
    "LabelledFolder": ".labelled",
    "LabelledImage": ".labelled",
    "LabelledImages": ".labelled",
    "LabelledShards": ".labelled",
    "Outcome": ".scoring",
    "Processes": ".processes",
    "Scores": ".scoring",
    "Tally": ".scoring",
    "check_report": ".page",
    "compare": ".comparing",
    "competing_classes": ".matching",
    "evenly_spaced": ".labelled",
    "join_processes": ".processes",
    "match_classes": ".matching",
    "open_labelled": ".labelled",
    "own_device": ".processes",
    "score_image": ".scoring",
    "write_comparison": ".comparing",
    "write_report": ".page",
    "write_table": ".report",
}

__all__ = [
    "ClassName",
    "Comparison",
    "Evaluation",
    "Evaluator",
    "EvenlySpaced",
    "LabelledFolder",
    "LabelledImage",
    "LabelledImages",
    "LabelledShards",
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
    "open_labelled",
    "own_device",
    "score_image",
    "write_comparison",
    "write_report",
    "write_table",
]

__getattr__, __dir__ = import_when_used(__name__, _HOMES)
