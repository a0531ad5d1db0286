"""Label or embed images with the exported model in this folder: python predict.py cat.jpg dog.jpg.

Needs numpy, Pillow and the file's runtime alone (onnxruntime, openvino or torch). Color profiles are not applied.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def load(file: Path, export: dict):
    """A function from images, as the file takes them, to its outputs in their order."""
    form, precision = export["format"], export["precision"]
    packages = {"onnx": "onnxruntime", "openvino": "openvino", "pt2": "torch", "aotinductor": "torch"}
    runtime = import_module(packages.get(form) or sys.exit(f"{file.name} is run by the lines in README.md alone"))
    if form == "onnx":
        session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"images": images})
    if form == "openvino":
        run = runtime.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32"})
        return lambda images: [value.copy() for value in run([images]).values()]
    run = runtime._inductor.aoti_load_package(file) if form == "aotinductor" else runtime.export.load(file).module()
    return lambda images: [value.numpy() for value in run(runtime.from_numpy(images))]


def prepare(path: str, transform: dict) -> np.ndarray:
    """An image resized and cropped, as uint8 pixel values (height, width, channels)."""
    mode, (channels, height, width) = transform["crop_mode"], transform["input_size"]
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode in ("I", "F"):
        raise ValueError(f"{path} holds 32-bit gray, whose range is not guessed here; save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):
        deep, clear = np.asarray(image), image.info.get("transparency")
        image = Image.fromarray(np.where(deep == clear, 255, np.rint(deep / 257)).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    target_height, target_width = (int(side / transform["crop_pct"]) for side in (height, width))
    if mode == "squash":
        size = target_width, target_height
    elif mode == "center" and target_height == target_width:
        size = [int(target_width * side / min(image.size)) for side in image.size]
    else:
        ratio = (max if mode == "border" else min)(image.height / target_height, image.width / target_width)
        size = max(1, round(image.width / ratio)), max(1, round(image.height / ratio))
    image = image.convert(("L", "RGB")[channels // 3]).resize(size, getattr(Image, transform["interpolation"].upper()))
    fill = tuple(round(255 * level) for level in transform["mean"]) if mode == "border" else 0
    left, top = (round(by / 2) if by > 0 else -(-by // 2) for by in (image.width - width, image.height - height))
    canvas = Image.new(image.mode, (width, height), fill)
    canvas.paste(image, (-left, -top))
    return np.asarray(canvas).reshape(height, width, channels)


def main(paths: list[str]) -> None:
    """Print the five likeliest classes of each image, or its embedding."""
    folder = Path(__file__).resolve().parent
    export = json.loads((folder / "config.json").read_text("utf-8"))["export"]
    labels, transform = (folder / "labels.txt").read_text("utf-8").split("\n"), export["transform"]
    run = load(folder / export["file"], export)
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
    sys.excepthook = lambda kind, error, _: print(f"{kind.__name__}: {error}", file=sys.stderr)
    main(sys.argv[1:] or sys.exit(__doc__))
