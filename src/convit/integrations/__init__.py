"""ConViT inside other libraries, one module each, which import those libraries and nobody else does.

The room promises that the library's own calls run unchanged on our class, and that what was changed can be undone.
"""
