"""Images in; labels and embeddings out.

Promises: whatever an image is (a path, bytes, an array; gray, 16-bit, CMYK, turned, cut off), it becomes upright RGB
or one line that says what is wrong; results keep the images' order, and one bad image does not stop a run; whatever is
sent along with an image comes back with its result. Start reading at `convit.inference.classifier`; the options of a
run stand in `convit.inference.options`.

Importing this package imports neither torch nor pyarrow.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
