"""Models behind HTTP: classify, embed, search and explain images, and a page to try them on.

Promises: a request is answered, or refused with a code and a sentence that names no path; what was accepted is finished
when the service is stopped; memory is bounded by the limits in `ServiceOptions`. Start reading at `serving.app`.

Needs the extra `serve`. Importing this package imports neither FastAPI nor torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
