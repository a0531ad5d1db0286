from .building import fastest_attention, optimize
from .optimized import OptimizedConViT
from .plan import Plan, Step
from .precision import PRECISIONS, Precision

__all__ = ["PRECISIONS", "OptimizedConViT", "Plan", "Precision", "Step", "fastest_attention", "optimize"]
