"""The edge to torch: scaling whole batches on the device that runs the model."""

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from convit.transforms.settings import TransformSettings


def normalize_batch(
    pixels: UInt8[Tensor, "batch height width channels"], settings: TransformSettings
) -> Float32[Tensor, "batch channels height width"]:
    """Scale a batch of 8-bit levels on its device, equal to `EvaluationTransform.normalize` to the last bit.

    Args:
        pixels: levels, channels last, as `EvaluationTransform.to_pixels` gives them.
        settings: where mean and deviation are read.
    """

    def constants(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=pixels.device).view(1, -1, 1, 1)

    levels = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    # by a tensor and not by a number: GPUs multiply by the rounded reciprocal of a number
    return levels.div_(constants(255.0)).sub_(constants(*settings.mean)).div_(constants(*settings.std))
