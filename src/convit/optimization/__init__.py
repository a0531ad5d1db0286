"""The fast form of a model for a device: `optimize`, and the plan that says what was chosen and why.

The room promises that an optimized model gives what its model gives (exactly but for rounding; in int8 and fp8 but for
what those cost), that the model handed over stays as it is, and that what was chosen can be read. Start at
`building.py`; `blocks.py` is the fast block, `folding.py` the algebra behind it, `precision.py` the one table of
precisions.

Importing this package does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
