"""What a ConViT's heads look at and what its gates learned: maps, rollout, gates, non-locality, learned centers.

The room promises that everything is measured on propagated activations, on any patch grid, in every layer, and that
the model is left as it was: its mode, hooks, gradients and weights. Start reading at `attention.py`. What needs
matplotlib (`drawing.py`, `page.py`) is imported by name.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
