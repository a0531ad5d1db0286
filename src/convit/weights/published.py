"""What others published of the released weights: facts with their source, apart from what this project measured.

Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

TIMM = "timm's result tables, the released file"
# as `convit evaluate` calls them, and as people do
DATA_SETS = {
    "imagenet": "ImageNet-1k",
    "imagenet-real": "ImageNet ReaL",
    "imagenet-v2": "ImageNet V2",
    "imagenet-a": "ImageNet-A",
    "imagenet-r": "ImageNet-R",
    "imagenet-sketch": "ImageNet-Sketch",
}


@dataclass(frozen=True)
class Published:
    """An accuracy that others published.

    Attributes:
        data: the test images, a key of `DATA_SETS`.
        top1: share of images whose class comes first, percent.
        source: who published it, of which weights.
        top5: share of images whose class is among the first five, percent; None if the source does not say.
    """

    data: str
    top1: float
    source: str
    top5: float | None = None


def _released(imagenet: float, top5: float, **relatives: float) -> tuple[Published, ...]:
    others = (Published(f"imagenet-{name}", top1, TIMM) for name, top1 in relatives.items())
    return (Published("imagenet", imagenet, TIMM, top5), *others)


PUBLISHED: dict[str, tuple[Published, ...]] = {
    "convit_tiny.fb_in1k": _released(73.14, 91.70, real=81.13, v2=61.43, a=8.71, r=35.10, sketch=22.27),
    "convit_small.fb_in1k": _released(81.41, 95.74, real=87.04, v2=70.71, a=24.81, r=45.25, sketch=32.96),
    "convit_base.fb_in1k": _released(82.30, 95.94, real=87.20, v2=71.52, a=29.39, r=48.25, sketch=35.32),
}
"""By weight set; the paper's own figures, of its models and not of files, stand in `convit.model.variants`."""
