from .duplicates import Duplicate, Picture, find_duplicates
from .index import Index
from .nearest import Hit
from .pictures import Collection, read_collection
from .sheet import duplicates_page, search_page
from .updating import Update

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
