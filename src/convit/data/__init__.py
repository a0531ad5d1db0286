"""Data sets and loaders: folders, shards, Parquet, hub sets and CIFAR become batches; start reading at `datasets`.

`resolve_model_data_config` and `create_transform` stand here too, because timm's users look for them under `data`.
Nothing heavy is imported before a name is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convit.lazy import import_when_used

if TYPE_CHECKING:
    from convit.data.corrupt import CorruptImages, TooManyCorruptError
    from convit.data.datasets import ImageDataset, check_trainable, hold_out, open_dataset, take_share
    from convit.data.fingerprints import fingerprint
    from convit.transforms import create_transform, resolve_model_data_config

__all__ = [
    "CorruptImages",
    "ImageDataset",
    "TooManyCorruptError",
    "check_trainable",
    "create_transform",
    "fingerprint",
    "hold_out",
    "open_dataset",
    "resolve_model_data_config",
    "take_share",
]

_HOMES = {
    "CorruptImages": "convit.data.corrupt",
    "TooManyCorruptError": "convit.data.corrupt",
    "ImageDataset": "convit.data.datasets",
    "check_trainable": "convit.data.datasets",
    "hold_out": "convit.data.datasets",
    "open_dataset": "convit.data.datasets",
    "take_share": "convit.data.datasets",
    "fingerprint": "convit.data.fingerprints",
    "create_transform": "convit.transforms",
    "resolve_model_data_config": "convit.transforms",
}

__getattr__, __dir__ = import_when_used(__name__, _HOMES)
