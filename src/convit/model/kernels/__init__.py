"""GPSA as one Triton kernel for CUDA GPUs: start at `gated_attention.py`, which wraps the kernels of `gpsa.py`.

The room promises that Triton is imported, and the operator made, only where the kernel is used, and that the kernel
computes what `convit.model.plain` says, with its gradients; tests show that in Triton's interpreter, and it was never
run on a GPU. `convit.optimization.fastest_attention` measures which form is faster.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
