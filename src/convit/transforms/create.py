"""`create_transform`, with timm's arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from convit.transforms.evaluation import EvaluationTransform
from convit.transforms.settings import IMAGENET_MEAN, IMAGENET_STD, TransformSettings, as_height_width

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


@overload
def create_transform(
    input_size: int | Sequence[int] = ..., is_training: Literal[False] = ..., *timm: Any, **options: Any
) -> EvaluationTransform: ...
@overload
def create_transform(
    input_size: int | Sequence[int], is_training: bool, *timm: Any, **options: Any
) -> Callable[[Image.Image], Tensor]: ...
def create_transform(
    input_size: int | Sequence[int] = 224,
    is_training: bool = False,
    no_aug: bool = False,
    train_crop_mode: str | None = None,
    scale: tuple[float, float] | None = None,
    ratio: tuple[float, float] | None = None,
    hflip: float = 0.5,
    vflip: float = 0.0,
    color_jitter: float | Sequence[float] | None = 0.4,
    color_jitter_prob: float | None = None,
    grayscale_prob: float = 0.0,
    gaussian_blur_prob: float = 0.0,
    auto_augment: str | None = None,
    interpolation: str = "bilinear",
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    re_prob: float = 0.0,
    re_mode: str = "const",
    re_count: int = 1,
    re_num_splits: int = 0,
    crop_pct: float | None = None,
    crop_mode: str | None = None,
    crop_border_pixels: int | None = None,
    tf_preprocessing: bool = False,
    use_prefetcher: bool = False,
    normalize: bool = True,
    separate: bool = False,
    naflex: bool = False,
    patch_size: int | tuple[int, int] = 16,
    max_seq_len: int = 576,
    patchify: bool = False,
    patchify_channels_last: bool = True,
    patchify_flatten: bool = True,
) -> Any:
    """Make the function that turns a Pillow image into a model's input, with timm's arguments and meaning.

    Call it with what `resolve_model_data_config` gives: `create_transform(**config, is_training=False)`.

    Args:
        input_size: side, (height, width) or (channels, height, width) of the model's input, pixels.
        is_training: whether images are cropped and changed at random. As in timm, evaluation ignores the options of
            training, and training `crop_pct`, `crop_mode` and `crop_border_pixels`.
        no_aug: in training resizes (a side: the short one, and cuts the center out; else both) and changes nothing.
        train_crop_mode: "rrc" (or None) cuts out a random area of a random shape; "rkrc" resizes with a little scale
            and aspect and cuts the center out, "rkrr" a random place.
        scale: share of the area that is cut out; None for (0.08, 1), or (0.8, 1) with "rkrc" and "rkrr".
        ratio: width over height of it; None for (3/4, 4/3), or (0.9, 1/0.9) with those two.
        hflip: probability of a left-right flip.
        vflip: probability of a top-bottom flip.
        color_jitter: strength for brightness, contrast and saturation, or one each, perhaps with hue. Left out where
            `auto_augment` is given, except with "3a".
        color_jitter_prob: that it is applied; None for always.
        grayscale_prob: that colors are taken out.
        gaussian_blur_prob: that the image is blurred (23 pixels wide).
        auto_augment: a policy such as "rand-m9-mstd0.5-inc1"; `convit.transforms.augmentation.parse_policy` tells which
            there are and how they differ from timm's.
        interpolation: "nearest", "bilinear", "bicubic", "box", "hamming" or "lanczos"; in training also "random",
            bilinear or bicubic.
        mean: subtracted per channel, white being 1.
        std: what the difference is divided by, per channel.
        re_prob: probability of random erasing, after normalization.
        re_mode: what it puts in: "const" zeros, "rand" a random color, "pixel" noise.
        re_count: at most so many rectangles.
        re_num_splits: accepted; it concerns whole batches, as in timm.
        crop_pct: input side over resized side, in [0.01, 1]; None for 0.875.
        crop_mode: "center", "squash" or "border"; None for "center".
        crop_border_pixels: cut off every side before anything else.
        tf_preprocessing: must not be true: TensorFlow's preprocessing is not here.
        use_prefetcher: gives uint8 pixel values, as `normalize=False`.
        normalize: whether values are scaled; otherwise the tensor holds uint8 pixel values.
        separate: in training gives three transforms: crop and flip, color, tensor.
        naflex: must not be true: a ConViT takes whole images.
        patch_size: accepted; it concerns `naflex` and `patchify` alone, as the rest does.
        max_seq_len: likewise.
        patchify: must not be true: a ConViT cuts its patches itself.
        patchify_channels_last: likewise.
        patchify_flatten: likewise.

    Returns:
        A callable: Pillow image → float32 tensor (channels, height, width). In evaluation it is an
        `EvaluationTransform`, equal to timm 1.0.31's to the last bit; in training the same kinds of changes are drawn
        from torch's generator.

    Raises:
        ValueError: a value is out of range, or one that is not supported.
    """
    del re_num_splits, patch_size, max_seq_len, patchify_channels_last, patchify_flatten
    refused = {"tf_preprocessing": tf_preprocessing, "naflex": naflex, "patchify": patchify}
    for name in (name for name, given in refused.items() if given):
        raise ValueError(f"{name} is True, but a ConViT takes whole images, prepared by Pillow; leave it out")
    scaled = normalize and not use_prefetcher
    if is_training and not no_aug:
        from torchvision.transforms.v2 import Compose

        from convit.transforms.training import change_colors, crop_and_flip, make_tensor

        turning = "bicubic" if interpolation == "random" else interpolation
        settings = TransformSettings((3, *as_height_width(input_size)), turning, tuple(mean), tuple(std))
        size = (settings.height, settings.width)
        stages = (
            crop_and_flip(size, interpolation, train_crop_mode, scale, ratio, hflip, vflip),
            change_colors(settings, auto_augment, color_jitter, color_jitter_prob, grayscale_prob, gaussian_blur_prob),
            make_tensor(settings, scaled, re_prob, re_mode, re_count),
        )
        return stages if separate else Compose(stages)
    if separate:
        raise ValueError("separate is True, but only training with augmentation has stages; leave it out")
    if is_training:  # without augmentation
        interpolation = "bilinear" if interpolation == "random" else interpolation
        crop_pct, crop_mode, crop_border_pixels = 1.0, "center" if isinstance(input_size, int) else "squash", None
    channels = 3 if isinstance(input_size, int) or len(input_size) == 2 else input_size[0]
    settings = TransformSettings(
        (channels, *as_height_width(input_size)),
        interpolation,
        tuple(mean),
        tuple(std),
        crop_pct or TransformSettings.crop_pct,
        crop_mode or TransformSettings.crop_mode,
    )
    return EvaluationTransform(settings, normalize=scaled, border=crop_border_pixels or 0)
