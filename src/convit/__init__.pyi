from . import data as data
from .finetuning.run import finetune as finetune
from .inference import Classifier as Classifier
from .inference import Embedder as Embedder
from .inference import Prediction as Prediction
from .model import VARIANTS as VARIANTS
from .model import ConViT as ConViT
from .model import ConViTConfig as ConViTConfig
from .optimization import optimize as optimize
from .training.run import train as train
from .weights import create_model as create_model
from .weights import get_pretrained_cfg as get_pretrained_cfg
from .weights import is_model as is_model
from .weights import is_model_pretrained as is_model_pretrained
from .weights import list_models as list_models
from .weights import list_pretrained as list_pretrained
from .weights import load_model as load_model
from .weights import model_entrypoint as model_entrypoint
from .weights import save_weights as save_weights

__version__: str
