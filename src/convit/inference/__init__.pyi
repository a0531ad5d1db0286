from .classifier import Classifier as Classifier
from .classifier import Prediction as Prediction
from .embedder import Embedder as Embedder
from .options import RunOptions as RunOptions
from .options import check_kind as check_kind
