"""Images from anywhere: listed, opened safely, upright, 8-bit RGB; one line that says what is wrong with the others.

Every command and every data set lists and opens through this package, so that all of them see the same pixels. Start
reading at `opening.py`. Nothing here imports torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
