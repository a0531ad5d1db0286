"""Images found by what they show: an index of embeddings, search in it, and duplicates.

Promises: an index holds vectors of one model and one preprocessing and refuses any other; bringing it up to date costs
only what is new or changed, and a process that is killed loses at most the images since its last commit; a search is
exact until the index is large, and approximate after that. Start reading at `convit.search.index`; duplicates are
found in `convit.search.duplicates`.

The store is LanceDB's: pip install 'convit[search]'. Importing this package imports neither it nor torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
