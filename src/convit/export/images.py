"""The images that a proof reads: the user's own, or smooth color fields where there are none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from convit.export.proof import Pixels
from convit.transforms import EvaluationTransform, TransformSettings

SMOOTH = "smooth color fields"


def smooth_images(count: int, channels: int = 3) -> list[Image.Image]:
    """Color fields drawn from a fixed seed, 320 x 256 pixels: nearer to photographs than noise is."""
    random = np.random.default_rng(0)
    mode = "L" if channels == 1 else "RGB"
    fields = random.integers(0, 256, (count, 6, 8, 3), dtype=np.uint8)
    return [Image.fromarray(field).convert(mode).resize((320, 256), Image.Resampling.BICUBIC) for field in fields]


def batches_of(
    images: Sequence[Image.Image], settings: TransformSettings, shapes: Sequence[tuple[int, int, int]]
) -> Iterator[Pixels]:
    """Batches of these (batch, height, width), filled with the images in turn."""
    place = 0
    for batch, height, width in shapes:
        sized = replace(settings, input_size=(settings.input_size[0], height, width))
        transform = EvaluationTransform(sized)
        chosen = [images[(place + number) % len(images)] for number in range(batch)]
        place += batch
        pixels = np.stack([transform.to_pixels(image) for image in chosen])
        yield pixels if pixels.ndim == 4 else pixels[..., None]
