"""The model, on torch alone: start with `convit.py`, whose parts are `layers.py`, `attention.py` and `positional.py`.

The room promises parameter names of the published files, any image size, and for every fast path a plain twin
(`plain.py`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
