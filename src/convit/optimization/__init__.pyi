from .building import fastest_attention as fastest_attention
from .building import optimize as optimize
from .optimized import OptimizedConViT as OptimizedConViT
from .plan import Plan as Plan
from .plan import Step as Step
from .precision import PRECISIONS as PRECISIONS
from .precision import Precision as Precision
