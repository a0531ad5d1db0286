from .classifier import Classifier, Prediction
from .embedder import Embedder
from .options import RunOptions, check_kind

__all__ = ["Classifier", "Embedder", "Prediction", "RunOptions", "check_kind"]
