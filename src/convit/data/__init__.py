"""Data sets and loaders: folders, shards, Parquet, hub sets, CIFAR and ImageNet become batches.

Start reading at `opening` (the one door), go on with `samples` (what each data set gives) and `datasets` (for PyTorch).

`create_transform` and both `resolve_…data_config` stand here too, where timm's users look for them.
Nothing heavy is imported before a name is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
