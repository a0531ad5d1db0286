"""What is known of the processor that PyTorch runs on. Needs torch only inside the functions."""

from __future__ import annotations

import functools
from typing import Any

_INT8 = ("avx_vnni", "avx512_vnni", "amx_int8")


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
def onednn_has(precision: str) -> bool:
    """Whether PyTorch was built with oneDNN, and that has products in "bf16" or "fp16" here (AVX-512's, or ARM's).

    Without them PyTorch converts number by number, and takes several times as long as in fp32.
    """
    import torch

    check: Any = getattr(torch.ops.mkldnn, f"_is_mkldnn_{precision}_supported", None)  # no operator in other builds
    return check is not None and bool(check())


@functools.cache
def lacks_int8() -> bool:
    """Whether the processor is known to have no instructions for int8 products (VNNI or AMX, on x86).

    False where PyTorch (before 2.11) does not say, and on other processors.
    """
    return all(capabilities().get(name) is False for name in _INT8)


@functools.cache
def capabilities() -> dict[str, Any]:
    """The name and instruction sets of the processor, as PyTorch knows them."""
    import torch

    return getattr(torch.cpu, "get_capabilities", dict)()
