"""Pretrained sets: find, fetch, check, read and adapt them, and make models of them by name.

The room promises: a state dict of timm or of the authors loads as it is, and ours loads there; a file is used only when
it is complete and has the hash that it must have; no pickle can run code; a missing network, a full disk and a file
that does not fit are said in one line with what to do. Start reading at `factory.py` (`create_model`), which calls
`weight_sets.py` (the table), `fetch.py` (`hub.py`, `download.py`), `files.py` and `adapt.py`.

The table and the labels need no torch; each name below is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
