"""ConViT, whole and fast: classify and embed images, train and evaluate, with timm's names.

`import convit as timm` is enough for timm's own snippets. Start reading at `convit.model.convit`. Importing this
package imports nothing heavy: the stub beside this file says where each name lives, and it is fetched on first use.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
