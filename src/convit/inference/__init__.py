"""People's pictures in, labels, embeddings and files out.

Promises: whatever a picture is (a path, bytes, an array; gray, 16-bit, CMYK, turned, cut off), it becomes upright RGB
or one line that says what is wrong; results keep the pictures' order, and one bad picture stops no run; files appear
whole or not at all. Start reading at `convit.inference.classifier`; pictures are opened in `convit.images.opening`,
results written in `convit.output`.

Importing this package imports neither torch nor pyarrow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
