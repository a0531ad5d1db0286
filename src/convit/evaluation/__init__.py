"""How good a model is on labeled images: accuracies, calibration and loss, with everything needed to measure again.

The room promises: every image is counted once or named as unreadable; labels that do not fit the model's classes are
refused before anything runs; a result names its weights and its data by sha256. Start reading at
`convit.evaluation.evaluator`; `probes/` trains probes on embeddings. Importing this package imports no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
