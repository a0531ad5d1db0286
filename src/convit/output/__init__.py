"""Results as files: tables, JSON, CSV, Parquet and NumPy archives, written row by row; pages, figures, atomic files.

Promises: rows keep the order of the images and hold path, results and an error; a file appears whole under its name
or not at all; an existing file is replaced only when asked to. Start reading at `convit.output.writer`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
