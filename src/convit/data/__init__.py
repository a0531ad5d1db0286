"""Data sets and loaders: folders, shards, Parquet, hub sets, CIFAR and ImageNet become batches.

Start reading at `opening` (the one door), go on with `samples` (what each data set gives) and `datasets` (for PyTorch).

`resolve_model_data_config` and `create_transform` stand here too, because timm's users look for them under `data`.
Nothing heavy is imported before a name is used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
