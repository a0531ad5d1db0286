"""Which part of the time the model waits for pictures, when the command line labels a folder of photographs.

Measures `convit classify FOLDER` on photographs made from scikit-image's (cut, turned and scaled to the sizes that
cameras and the web have, JPEG), with random weights, on the default settings; the share is the one that the command
prints itself. Target: at most 10 % of the time, for the default model convit_base. Beside it stands how many pictures
a second the same files give without a model, opened, decoded, resized and cropped: by one thread, and by as many as the
command uses.

    python benchmarks/folder.py
    python benchmarks/folder.py --fast-decode --dry
    python benchmarks/folder.py --models convit_tiny --images 24 --dry
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

TARGET = 10.0
SIZES = ((1600, 1200), (1200, 1600), (1024, 768), (640, 480), (500, 375))
_SUMMARY = re.compile(r"(\d+) images in ([\d.]+) s, ([\d.]+) images/s, waited for data ([\d.]+) %")


def make_photographs(folder: Path, count: int) -> None:
    """Fill a folder with JPEG photographs of several sizes."""
    from PIL import Image
    from skimage import data

    originals = [Image.fromarray(read()).convert("RGB") for read in (data.chelsea, data.coffee, data.astronaut)]
    for number in range(count):
        original, size = originals[number % len(originals)], SIZES[number % len(SIZES)]
        left = (number * 7) % 40
        cut = original.crop((left, left, original.width - left, original.height - left))
        turned = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if number % 2 else cut
        turned.resize(size, Image.Resampling.BICUBIC).save(folder / f"{number:05d}.jpg", quality=90)


def reading_speed(photographs: Path, name: str, workers: int, *, fast_decode: bool) -> float:
    """Pictures made ready for a model per second, with nothing else to do."""
    from convit.images import find_images
    from convit.images.opening import open_image, opened
    from convit.inference.predicting import read_batches
    from convit.model import VARIANTS
    from convit.transforms import EvaluationTransform, TransformSettings

    config = VARIANTS[name].config
    size = (config.in_chans, config.image_height, config.image_width)
    transform = EvaluationTransform(TransformSettings(input_size=size, interpolation="bicubic"))
    at_least = transform.least_side

    def read(path: Path) -> object:
        if fast_decode:
            with opened(path, at_least=at_least) as (image, full_size):
                return transform.to_pixels(image, full_size)
        return transform.to_pixels(open_image(path))

    paths = find_images(photographs)
    start = time.perf_counter()
    count = sum(len(batch) for batch in read_batches(paths, read, batch_size=8, workers=workers))
    return count / (time.perf_counter() - start)


def measure(name: str, photographs: Path, workplace: Path, options: list[str]) -> dict[str, Any]:
    """Run the command once and read what it says of its time."""
    from convit.inference.predicting import default_workers
    from convit.weights import create_model, save_weights

    weights = workplace / f"{name}.safetensors"
    save_weights(weights, create_model(name))
    output = workplace / f"{name}.jsonl"
    command = [sys.executable, "-m", "convit", "classify", str(photographs), "--weights", str(weights), *options]
    run = subprocess.run([*command, "--output", str(output)], check=True, capture_output=True, text=True)
    found = _SUMMARY.search(run.stderr)
    if found is None:
        raise SystemExit(f"the command did not say how long it waited: {run.stderr.strip()}")
    images, seconds, speed, share = found.groups()
    fast_decode, workers = "--fast-decode" in options, default_workers()
    return {
        "model": name,
        "options": " ".join(options),
        "images": int(images),
        "seconds": float(seconds),
        "images_per_second": float(speed),
        "waiting_percent": float(share),
        "target_percent": TARGET,
        "workers": workers,
        "read_by_one": round(reading_speed(photographs, name, 1, fast_decode=fast_decode), 1),
        "read_by_all": round(reading_speed(photographs, name, workers, fast_decode=fast_decode), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["convit_base", "convit_tiny"])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fast-decode", action="store_true", help="run the command with --fast-decode")
    parser.add_argument("--dry", action="store_true", help="keep no result")
    given = parser.parse_args()

    from benchmarks.machine import describe_machine, print_machine, save_result

    machine = describe_machine(given.device)
    print_machine(machine)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        photographs = Path(place) / "photographs"
        photographs.mkdir()
        make_photographs(photographs, given.images)
        for name in given.models:
            options = ["--device", given.device, *(["--fast-decode"] if given.fast_decode else [])]
            row = measure(name, photographs, Path(place), options)
            rows.append(row)
            print(
                f"{name}: {row['images']} images, {row['images_per_second']} images/s, waited for data "
                f"{row['waiting_percent']} % of the time (target at most {TARGET:g} %); ready without a model: "
                f"{row['read_by_one']} images/s by one thread, {row['read_by_all']} by {row['workers']}",
                flush=True,
            )
    if not given.dry:
        print(save_result("folder", machine, rows))


if __name__ == "__main__":
    main()
