"""The fast form of a model for a device: `optimize`, and the plan that says what was chosen and why.

The room promises that an optimized model gives what its model gives (exactly but for rounding; in int8 and fp8 but for
what those cost), that the model handed over stays as it is, and that what was chosen can be read. Start at
`building.py`; `blocks.py` is the fast block, `folding.py` the algebra behind it.
"""

from convit.optimization.building import optimize
from convit.optimization.choosing import fastest_attention
from convit.optimization.optimized import OptimizedConViT
from convit.optimization.plan import PRECISIONS, Plan, Step

__all__ = ["PRECISIONS", "OptimizedConViT", "Plan", "Step", "fastest_attention", "optimize"]
