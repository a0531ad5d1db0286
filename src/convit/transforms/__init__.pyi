from .create import create_transform as create_transform
from .evaluation import EvaluationTransform as EvaluationTransform
from .evaluation import normalize_batch as normalize_batch
from .settings import TransformSettings as TransformSettings
from .settings import resolve_data_config as resolve_data_config
from .settings import resolve_model_data_config as resolve_model_data_config
