"""Resizing and cropping of Pillow images, with the rounding rules of timm 1.0.31 and torchvision."""

from PIL import Image, ImageOps

from convit.transforms.settings import TransformSettings

# An image a thousand times longer than high would become gigabytes when its short side is scaled to 256 pixels.
LARGEST_RESIZED = 2**26  # pixels


def resize_and_crop(image: Image.Image, settings: TransformSettings) -> Image.Image:
    """Scale an image, and cut the center out of it or fill it up.

    Args:
        image: any image with sides of at least one pixel.
        settings: crop mode, interpolation, sizes and mean color.

    Returns:
        The crop, of the settings' size. Above 2^26 scaled pixels (thin strips, a thousand times longer than wide) only
        the part around the center is scaled, which may move levels by one.
    """
    channels, height, width = settings.input_size
    scaled_width, scaled_height = resized_size(image.width, image.height, settings)
    if scaled_width * scaled_height > LARGEST_RESIZED:
        image, scaled_width, scaled_height = _keep_center(image, scaled_width, scaled_height, settings)
    image = image.resize((scaled_width, scaled_height), Image.Resampling[settings.interpolation.upper()])
    missing_width, missing_height = max(0, width - scaled_width), max(0, height - scaled_height)
    if missing_width or missing_height:
        left, top = missing_width // 2, missing_height // 2
        border = (left, top, missing_width - left, missing_height - top)
        fill = settings.fill if settings.crop_mode == "border" else (0,) * channels
        image = ImageOps.expand(image, border, fill if channels > 1 else fill[0])
    # Python's round: halves go to the even neighbor
    top, left = round((image.height - height) / 2.0), round((image.width - width) / 2.0)
    return image.crop((left, top, left + width, top + height))


def resized_size(width: int, height: int, settings: TransformSettings) -> tuple[int, int]:
    """Give the (width, height) in pixels that an image is scaled to before the crop."""
    target_height, target_width = settings.resized_size
    if settings.crop_mode == "squash":
        return target_width, target_height
    if settings.crop_mode == "center" and target_height == target_width:
        # the short side is exact; the long one is rounded down
        short, long = sorted((width, height))
        scaled = int(target_width * long / short)
        return (target_width, scaled) if width <= height else (scaled, target_height)
    ratios = height / target_height, width / target_width
    ratio = max(ratios) if settings.crop_mode == "border" else min(ratios)
    return max(1, round(width / ratio)), max(1, round(height / ratio))


def crop_while_resizing(image: Image.Image, full_size: tuple[int, int], settings: TransformSettings) -> Image.Image:
    """Scale only what the center crop reads, in place of `resize_and_crop`.

    Differs from it by a few levels in some pixels: Pillow keeps the box that it scales in single precision,
    and may take height before width.

    Args:
        image: the whole image, perhaps decoded at a fraction of its size.
        full_size: (width, height) of the image at full size, upright; it decides where the crop lies.
        settings: interpolation and sizes; the crop mode must not be "border".

    Returns:
        The crop, of the settings' size.
    """
    width, height = resized_size(*full_size, settings)
    left, top = round((width - settings.width) / 2.0), round((height - settings.height) / 2.0)
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, (left + settings.width) * across, (top + settings.height) * down)
    # single precision may round the far edges up by a little, which Pillow would refuse
    box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
    resampling = Image.Resampling[settings.interpolation.upper()]
    return image.resize((settings.width, settings.height), resampling, box)


def _keep_center(
    image: Image.Image, width: int, height: int, settings: TransformSettings
) -> tuple[Image.Image, int, int]:
    """Cut the long side of a strip to about twice what the crop reads, and scale the wanted size with it."""
    if width >= height:
        kept = min(image.width, max(1, round(image.width * 2 * settings.width / width)))
        left = (image.width - kept) // 2
        return (
            image.crop((left, 0, left + kept, image.height)),
            max(settings.width, round(width * kept / image.width)),
            height,
        )
    kept = min(image.height, max(1, round(image.height * 2 * settings.height / height)))
    top = (image.height - kept) // 2
    return (
        image.crop((0, top, image.width, top + kept)),
        width,
        max(settings.height, round(height * kept / image.height)),
    )
