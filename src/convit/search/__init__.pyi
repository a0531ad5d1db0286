from .duplicates import Criteria, Duplicate, find_duplicates
from .index import Index
from .listing import EmbeddedImages, ListedImage, embed_images, list_images
from .nearest import Hit
from .sheet import duplicates_page, search_page
from .updating import Update
from .vectors import Added, Vectors

__all__ = [
    "Added",
    "Criteria",
    "Duplicate",
    "EmbeddedImages",
    "Hit",
    "Index",
    "ListedImage",
    "Update",
    "Vectors",
    "duplicates_page",
    "embed_images",
    "find_duplicates",
    "list_images",
    "search_page",
]
