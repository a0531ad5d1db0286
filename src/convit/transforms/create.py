"""`create_transform`, with timm's keywords."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from convit.transforms.evaluation import EvaluationTransform
from convit.transforms.settings import IMAGENET_MEAN, IMAGENET_STD, TransformSettings, as_height_width

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

# timm's keywords that concern training alone and that its evaluation transform passes over without a word
_TRAINING_OPTIONS = (
    "no_aug train_crop_mode scale ratio hflip vflip color_jitter color_jitter_prob grayscale_prob gaussian_blur_prob "
    "auto_augment re_prob re_mode re_count re_num_splits"
)


@overload
def create_transform(
    input_size: int | Sequence[int] = ..., is_training: Literal[False] = ..., **options: Any
) -> EvaluationTransform: ...
@overload
def create_transform(
    input_size: int | Sequence[int], is_training: bool, **options: Any
) -> Callable[[Image.Image], Tensor]: ...
def create_transform(
    input_size: int | Sequence[int] = 224,
    is_training: bool = False,
    *,
    interpolation: str = "bilinear",
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    crop_pct: float | None = None,
    crop_mode: str | None = None,
    normalize: bool = True,
    **training_options: Any,
) -> Callable[[Image.Image], Tensor]:
    """Make the function that turns a Pillow image into a model's input.

    Call it with what `resolve_model_data_config` gives: `create_transform(**config, is_training=False)`.

    Args:
        input_size: side, (height, width) or (channels, height, width) of the model's input, pixels.
        is_training: whether images are cropped and changed at random; see `create_training_transform` for its options.
        interpolation: "nearest", "bilinear", "bicubic", "box", "hamming" or "lanczos"; in training also "random".
        mean: subtracted per channel, white being 1.
        std: what the difference is divided by, per channel.
        crop_pct: input side over resized side, in [0.01, 1]; None for 0.875. Evaluation only.
        crop_mode: "center", "squash" or "border"; None for "center". Evaluation only.
        normalize: whether values are scaled; otherwise the tensor holds uint8 pixel values.
        **training_options: timm's names for training (`hflip`, `color_jitter`, `auto_augment`, `re_prob` …). As in
            timm, evaluation accepts and ignores them.

    Returns:
        A callable: Pillow image → float32 tensor (channels, height, width). Without `is_training` it is an
        `EvaluationTransform`, equal to timm 1.0.31's to the last bit.

    Raises:
        ValueError: a value is out of range.
        TypeError: a keyword is unknown.
    """
    common: dict[str, Any] = {
        "input_size": input_size,
        "interpolation": interpolation,
        "mean": tuple(mean),
        "std": tuple(std),
    }
    if is_training:
        from convit.transforms.training import create_training_transform

        if not normalize:
            training_options["normalize"] = False
        return create_training_transform(**common, **training_options)
    if unknown := training_options.keys() - set(_TRAINING_OPTIONS.split()):
        raise TypeError(
            f"create_transform has no option {', '.join(sorted(unknown))}; see help(create_transform) for those it has"
        )
    channels = 3 if isinstance(input_size, int) or len(input_size) == 2 else input_size[0]
    card = {**common, "input_size": (channels, *as_height_width(input_size)), "crop_pct": crop_pct or None}
    return EvaluationTransform(TransformSettings.from_card(card, crop_mode=crop_mode or None), normalize=normalize)
