"""Large jobs on one machine or many: inputs divided into shards, each with one file of results.

Promises: a shard's results are there whole or not at all; a shard that has results is not done again; an image that
cannot be read is a row with its error; results of another model are refused. Start reading at `convit.scale.jobs`.

Importing this package imports neither torch nor Ray.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
