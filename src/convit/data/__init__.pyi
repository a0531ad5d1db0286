from .classes import ClassName
from .corrupt import CorruptImages, TooManyCorruptError
from .datasets import (
    ImageDataset,
    check_trainable,
    create_transform,
    hold_out,
    open_dataset,
    resolve_data_config,
    resolve_model_data_config,
    take_share,
)
from .opening import fingerprint, open_samples
from .samples import EvenlySpaced, LabeledImage, Samples, evenly_spaced

__all__ = [
    "ClassName",
    "CorruptImages",
    "EvenlySpaced",
    "ImageDataset",
    "LabeledImage",
    "Samples",
    "TooManyCorruptError",
    "check_trainable",
    "create_transform",
    "evenly_spaced",
    "fingerprint",
    "hold_out",
    "open_dataset",
    "open_samples",
    "resolve_data_config",
    "resolve_model_data_config",
    "take_share",
]
