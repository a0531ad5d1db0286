from .attention import GatedPositionalSelfAttention, SelfAttention
from .config import ConViTConfig, GlobalPool
from .convit import ConViT
from .counting import Operations, count_operations
from .features import FeatureExtractor
from .positional import resample_position_embedding
from .variants import VARIANTS, Variant

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
