"""What is known of the processor that PyTorch runs on. Needs torch only inside the functions."""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def is_amd_avx512() -> bool:
    """Whether the processor is known to be AMD's and to have AVX-512, which MKL does not use there.

    False where PyTorch (before 2.11) does not say.
    """
    found = capabilities()
    return "AMD" in str(found.get("cpu_name")) and bool(found.get("avx512_f"))


@functools.cache
def has_amx() -> bool:
    """Whether the processor has Intel's matrix units for bf16."""
    import torch

    return bool(capabilities().get("amx_bf16", torch.cpu._is_amx_tile_supported()))


@functools.cache
def onednn_has_bf16() -> bool:
    """Whether PyTorch was built with oneDNN, and that has instructions for bf16 here (AVX-512's, or ARM's)."""
    import torch

    check: Any = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # no operator in other builds
    return check is not None and bool(check())


@functools.cache
def capabilities() -> dict[str, Any]:
    """The name and instruction sets of the processor, as PyTorch knows them."""
    import torch

    return getattr(torch.cpu, "get_capabilities", dict)()
