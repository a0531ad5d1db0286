"""A model as files for other runtimes: `export_model` writes a folder, and only one whose results were compared.

The room promises that what it leaves behind gives what the model gives: every file is run in its runtime on images and
compared with PyTorch before the folder gets its name. Start at `exporting.py`; `formats.py` is the table of formats,
`graph.py` what is recorded.

Importing this package does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
