"""Label or embed images with the exported model in this folder: python predict.py cat.jpg dog.jpg.

Needs numpy, Pillow and the file's runtime alone (onnxruntime, openvino or torch). Color profiles are not applied.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def load(file: Path, form: str):
    """A function from images, as the file takes them, to its outputs in their order."""
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"images": images})
    if form == "openvino":
        import openvino

        compiled = openvino.compile_model(file, "CPU")
        return lambda images: [value.copy() for value in compiled([images]).values()]
    import torch

    program = torch._inductor.aoti_load_package(file) if form == "aotinductor" else torch.export.load(file).module()
    return lambda images: [value.numpy() for value in program(torch.from_numpy(images))]


def prepare(path: str, transform: dict) -> np.ndarray:
    """An image resized and cropped, as uint8 pixel values (height, width, channels)."""
    channels, height, width = transform["input_size"]
    image = ImageOps.exif_transpose(Image.open(path))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    mode = transform["crop_mode"]
    target_height, target_width = (int(side / transform["crop_pct"]) for side in (height, width))
    if mode == "squash":
        size = target_width, target_height
    elif mode == "center" and target_height == target_width:
        scaled = int(target_width * max(image.size) / min(image.size))
        size = (target_width, scaled) if image.width <= image.height else (scaled, target_height)
    else:
        ratio = (max if mode == "border" else min)(image.height / target_height, image.width / target_width)
        size = max(1, round(image.width / ratio)), max(1, round(image.height / ratio))
    sampling = Image.Resampling[transform["interpolation"].upper()]
    image = image.convert("RGB" if channels == 3 else "L").resize(size, sampling)
    across, down = max(0, width - image.width), max(0, height - image.height)
    fill = tuple(round(255 * level) if mode == "border" else 0 for level in transform["mean"])
    around = (across // 2, down // 2, across - across // 2, down - down // 2)
    image = ImageOps.expand(image, around, fill if channels == 3 else fill[0])
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return np.asarray(image.crop((left, top, left + width, top + height))).reshape(height, width, channels)


def main(paths: list[str]) -> None:
    """Print the five likeliest classes of each image, or its embedding."""
    folder = Path(__file__).resolve().parent
    export = json.loads((folder / "config.json").read_text("utf-8"))["export"]
    labels, transform = (folder / "labels.txt").read_text("utf-8").split("\n"), export["transform"]
    run = load(folder / export["file"], export["format"])
    for path in paths:
        images = prepare(path, transform)[None]
        if export["input"]["dtype"] == "float32":
            mean, std = (np.array(transform[name], np.float32) for name in ("mean", "std"))
            images = np.moveaxis((images / np.float32(255) - mean) / std, -1, 1).copy()
        found = dict(zip(export["outputs"], run(images), strict=True))
        if "logits" not in found:
            print(path, *found[export["outputs"][0]].ravel())
            continue
        exps = np.exp((found["logits"][0] - found["logits"].max()) / (export["temperature"] or 1.0))
        for index in exps.argsort()[::-1][:5]:
            print(f"{path}\t{labels[index]}\t{exps[index] / exps.sum():.4f}")


if __name__ == "__main__":
    main(sys.argv[1:])
