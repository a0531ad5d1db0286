from .create import create_transform
from .evaluation import EvaluationTransform, normalize_batch
from .settings import TransformSettings, resolve_data_config, resolve_model_data_config

__all__ = [
    "EvaluationTransform",
    "TransformSettings",
    "create_transform",
    "normalize_batch",
    "resolve_data_config",
    "resolve_model_data_config",
]
