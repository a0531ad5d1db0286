"""The model, on torch alone: start with `convit.py`, whose parts are `layers.py`, `attention.py` and `positional.py`.

The room promises parameter names of the published files, any image size, and for every fast path a plain twin
(`plain.py`).
"""

from convit.model.attention import GatedPositionalSelfAttention, SelfAttention
from convit.model.config import ConViTConfig, GlobalPool
from convit.model.convit import ConViT
from convit.model.counting import Operations, count_operations
from convit.model.features import FeatureExtractor
from convit.model.positional import resample_position_embedding
from convit.model.variants import VARIANTS, Variant

__all__ = [
    "VARIANTS",
    "ConViT",
    "ConViTConfig",
    "FeatureExtractor",
    "GatedPositionalSelfAttention",
    "GlobalPool",
    "Operations",
    "SelfAttention",
    "Variant",
    "count_operations",
    "resample_position_embedding",
]
