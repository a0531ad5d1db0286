"""Pictures found by what they show: an index of embeddings, search in it, and duplicates.

Promises: an index holds vectors of one model and one preprocessing and refuses any other; bringing it up to date costs
only what is new or changed, and a process that is killed loses at most the pictures since its last commit; a search is
exact until the index is large, and approximate after that only for what its recall was measured for, and where that is
high enough. Start reading at `convit.search.index`; duplicates are found in `convit.search.duplicates`.

The store is LanceDB's: pip install 'convit[search]'. Importing this package imports neither it nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convit.lazy import import_when_used

if TYPE_CHECKING:
    from convit.search.duplicates import Duplicate, Picture, find_duplicates
    from convit.search.hit import Hit
    from convit.search.index import Index
    from convit.search.pictures import Collection, read_collection
    from convit.search.sheet import duplicates_page, search_page
    from convit.search.updating import Update

_HOMES = {
    "Collection": ".pictures",
    "Duplicate": ".duplicates",
    "Hit": ".hit",
    "Index": ".index",
    "Picture": ".duplicates",
    "Update": ".updating",
    "duplicates_page": ".sheet",
    "find_duplicates": ".duplicates",
    "read_collection": ".pictures",
    "search_page": ".sheet",
}

__all__ = [
    "Collection",
    "Duplicate",
    "Hit",
    "Index",
    "Picture",
    "Update",
    "duplicates_page",
    "find_duplicates",
    "read_collection",
    "search_page",
]

__getattr__, __dir__ = import_when_used(__name__, _HOMES)
