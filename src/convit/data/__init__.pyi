from .classes import ClassName
from .corrupt import CorruptImages, TooManyCorruptError
from .datasets import ImageDataset, check_trainable, hold_out, open_dataset, take_share
from .opening import fingerprint, open_samples
from .samples import EvenlySpaced, LabeledImage, Samples, evenly_spaced
from .timm_api import create_transform, resolve_model_data_config

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
    "resolve_model_data_config",
    "take_share",
]
