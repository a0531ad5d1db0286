from .corrupt import CorruptImages, TooManyCorruptError
from .datasets import ImageDataset, check_trainable, hold_out, open_dataset, take_share
from .fingerprints import fingerprint
from .timm_api import create_transform, resolve_model_data_config

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
