from .building import optimize
from .choosing import fastest_attention
from .optimized import OptimizedConViT
from .plan import Plan, Step
from .precision import PRECISIONS, Precision

__all__ = ["PRECISIONS", "OptimizedConViT", "Plan", "Precision", "Step", "fastest_attention", "optimize"]
