"""Labeled images, whatever they are stored in: read in order or by place, and named by sha256.

The package promises: an image is given as it is stored, so that its preprocessing is that of the evaluation alone; the
order stays the same; what a data set is can be told at any time. Start reading at `images.py`, which says what every
data set gives, and go on with `opening.py`, which chooses among `folders.py`, `shards.py`, `tables.py` (Parquet, the
hub, CIFAR) and `imagenet.py` (ImageNet-1k and its relatives). `splits.py` finds a part of the data, `label_maps.py`
renames its classes, and `sampling.py` takes some of its images.
"""

from __future__ import annotations

from convit.evaluation.labeled.folders import LabeledFolder
from convit.evaluation.labeled.images import ClassName, LabeledImage, LabeledImages
from convit.evaluation.labeled.opening import open_labeled
from convit.evaluation.labeled.sampling import EvenlySpaced, evenly_spaced
from convit.evaluation.labeled.shards import LabeledShards

__all__ = [
    "ClassName",
    "EvenlySpaced",
    "LabeledFolder",
    "LabeledImage",
    "LabeledImages",
    "LabeledShards",
    "evenly_spaced",
    "open_labeled",
]
