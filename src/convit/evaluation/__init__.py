"""How good a model is on labelled images: top-1, top-5 and loss, with everything needed to measure again.

The room promises: every image is counted once or named as unreadable; labels that do not fit the model's classes are
refused before anything runs; a result names its weights and its data by sha256. Start reading at
`convit.evaluation.evaluator`: `labelled/` says where images and labels come from, `matching.py` which class of the
model a label means, `scoring.py` what is computed of each image, and `report.py` what is kept.

Importing this package imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from convit.evaluation.report import Evaluation, write_table
    from convit.evaluation.scoring import Outcome, Tally, score_image

_HOMES = {
    "ClassName": "labelled",
    "Evaluation": "report",
    "Evaluator": "evaluator",
    "EvenlySpaced": "labelled",
    "LabelledFolder": "labelled",
    "LabelledImage": "labelled",
    "LabelledImages": "labelled",
    "LabelledShards": "labelled",
    "Outcome": "scoring",
    "Tally": "scoring",
    "competing_classes": "matching",
    "evenly_spaced": "labelled",
    "match_classes": "matching",
    "open_labelled": "labelled",
    "score_image": "scoring",
    "write_table": "report",
}

__all__ = [
    "ClassName",
    "Evaluation",
    "Evaluator",
    "EvenlySpaced",
    "LabelledFolder",
    "LabelledImage",
    "LabelledImages",
    "LabelledShards",
    "Outcome",
    "Tally",
    "competing_classes",
    "evenly_spaced",
    "match_classes",
    "open_labelled",
    "score_image",
    "write_table",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
