"""Precisions that can be asked for, what is computed in fact, and how far outputs may lie apart in each."""

from __future__ import annotations

import torch

from convit.optimization.precision import CASTS, PRECISIONS, has_fp8

EIGHT_BITS = ("fp8", "int8")
TRAINING_PRECISIONS = ("fp32", "bf16")

# Largest difference between a model's logits and the fp32 model's, over the largest logit. fp32 to fp16: rounding over
# twelve blocks, with room. Eight bits round each value by up to 6 % (fp8 has three bits of fraction) or 1/254 of its
# row's largest (int8), and twelve blocks add that up to some 10 %; a wrong model's logits have nothing to do with the
# right ones and lie more than 100 % apart.
ALLOWED = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.02, "fp8": 0.35, "int8": 0.35}
ALLOWED_LOSS = {"fp32": 1e-4, "bf16": 0.05}  # relative difference of the first training losses


def check_precision(precision: str, device: torch.device, *, training: bool = False) -> None:
    """Refuse a precision that does not exist, or not on this device.

    Args:
        precision: as asked for.
        device: where it is to be computed.
        training: whether gradients are wanted.

    Raises:
        ValueError: there is no such precision, or not here.
    """
    known = TRAINING_PRECISIONS if training else PRECISIONS
    if precision not in known:
        what = "a training step" if training else "a model"
        raise ValueError(f"precision is {precision!r}, but {what} can be measured in {', '.join(known)}")
    if precision == "fp8" and not has_fp8(device):
        raise ValueError(
            f"fp8 needs a CUDA GPU of compute capability 8.9 or newer (Ada, Hopper), but the device is {device}; "
            "use --precision bf16 or int8"
        )


def peer_precision(precision: str, device: torch.device) -> str:
    """What a model that is only cast runs in, where ours is asked for `precision`.

    8 bits and "auto" are choices that another library does not offer by a cast: there it runs in what it has by
    default on the device, fp32 on a CPU and bf16 on a GPU.
    """
    return precision if precision in CASTS else "bf16" if device.type == "cuda" else "fp32"
