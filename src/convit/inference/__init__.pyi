from .classifier import Classifier, Prediction
from .embedder import Embedder
from .kinds import check_kind

__all__ = ["Classifier", "Embedder", "Prediction", "check_kind"]
