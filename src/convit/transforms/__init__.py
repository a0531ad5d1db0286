"""Preprocessing that travels with a model: which sizes and colors it wants, and the function that makes them.

Promises: `TransformSettings` is one value in weight set, card, recipe and model; the evaluation transform equals timm
1.0.31's to the last bit on 8-bit RGB images; nothing here needs torch until a tensor is asked for. Start reading at
`convit.transforms.evaluation`; training's random transforms stand in `convit.transforms.training`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
