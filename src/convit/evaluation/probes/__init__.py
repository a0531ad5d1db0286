"""How much a model's embeddings know: k-nearest-neighbor, linear and ridge probes, and few-shot curves.

The room promises: images are embedded once and kept, and what was kept is used only for the same weights, images,
preprocessing and precision; everything that is chosen is chosen on training images alone; every draw follows from a
seed and the labels, so that all models see the same images. Start reading at `probing.py`. Importing this package
imports no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
