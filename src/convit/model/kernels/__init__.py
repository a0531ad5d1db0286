"""GPSA as one Triton kernel for CUDA GPUs: start at `gated_attention.py`, which wraps the kernels of `gpsa.py`.

The room promises that Triton is imported only where the kernel is used, and that the kernel computes what
`convit.model.plain` says, with its gradients; tests show that in Triton's interpreter, and it was never run on a GPU.
`convit.optimization.fastest_attention` measures which form is faster.
"""

from convit.model.kernels.gated_attention import check_runs, fused_gated_attention

__all__ = ["check_runs", "fused_gated_attention"]
