"""What `--fast-decode` saves, and what it changes: time, pixels, and what a model says.

Reads JPEG photographs twice: as timm's preprocessing would (full decoding, the whole picture resized), and with
`fast_decode` (a half, a quarter or an eighth of the size where at least twice what is needed is left; only what the
crop reads is resized). Both take turns; times are medians per image over the whole set, in one thread. Errors are
absolute differences of the cropped pixels, in levels of 255. Where a model's weights are present, its best class and
its embedding are compared too.

The photographs are those inside scikit-image (public domain), laid side by side to the sizes of cameras without
being scaled, so that their detail stays that of photographs; `--data FOLDER` adds one's own.

    python benchmarks/decoding.py
    python benchmarks/decoding.py --data ~/photographs --models convit_base.fb_in1k
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SIZES = ((1281, 1111), (1600, 1200), (1200, 1600), (2400, 1600), (3023, 4031))  # (width, height)
ENCODINGS = ({"quality": 90, "subsampling": 2}, {"quality": 95, "subsampling": 0})
MODELS = ("convit_base.fb_in1k", "convit_mini_patch8_64.tiny_imagenet")
Pixels = np.ndarray


def make_collages(
    sizes: Sequence[tuple[int, int]] = SIZES, encodings: Sequence[dict[str, int]] = ENCODINGS
) -> dict[str, bytes]:
    """Photographs laid side by side, as JPEG files of camera sizes (width, height), by name."""
    from skimage import data

    photographs = [
        Image.fromarray(read()).convert("RGB") for read in (data.chelsea, data.coffee, data.rocket, data.astronaut)
    ]
    found: dict[str, bytes] = {}
    for number, (width, height) in enumerate(sizes):
        collage = Image.new("RGB", (width, height))
        tiles = iter(range(number, 10_000))
        for top in range(0, height, min(photograph.height for photograph in photographs)):
            left = 0
            while left < width:
                tile = photographs[next(tiles) % len(photographs)]
                collage.paste(tile, (left, top))
                left += tile.width
        for encoding in encodings:
            encoded = BytesIO()
            collage.save(encoded, "JPEG", **encoding)
            found[f"{width}x{height} {encoding['quality']}"] = encoded.getvalue()
    return found


def make_collage(size: tuple[int, int] = (1600, 1200)) -> bytes:
    """One of them, of (width, height), in the usual encoding."""
    (content,) = make_collages((size,), ENCODINGS[:1]).values()
    return content


def read_folder(folder: Path) -> dict[str, bytes]:
    """The JPEG files under a folder, by name."""
    from convit.images import find_images

    return {
        path.name: path.read_bytes()
        for path in find_images(folder)
        if path.suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif")
    }


def compare(name: str, files: dict[str, bytes], model: str, rounds: int) -> dict[str, Any]:
    """Time both ways of reading a set, and say by how much they differ."""
    from convit.benchmark.timing import alternate, summarize
    from convit.images.opening import open_image, opened
    from convit.transforms import EvaluationTransform
    from convit.weights import find_weight_set, is_cached

    weight_set = find_weight_set(model)
    transform = EvaluationTransform(weight_set.preprocessing)
    at_least = transform.least_side

    def full(content: bytes) -> Pixels:
        return transform.to_pixels(open_image(content))

    def fast(content: bytes) -> Pixels:
        with opened(content, at_least=at_least) as (image, full_size):
            return transform.to_pixels(image, full_size)

    ways: dict[str, Callable[[bytes], Any]] = {
        "decode_full": open_image,
        "decode_fast": lambda content: open_image(content, at_least=at_least),
        "ready_full": full,
        "ready_fast": fast,
    }
    calls = {way: lambda f=function: [f(content) for content in files.values()] for way, function in ways.items()}
    times = {
        f"{way}_ms": summarize([each / len(files) for each in seconds])
        for way, seconds in alternate(calls, rounds).items()
    }
    reduced = sum(open_image(c, at_least=at_least).size != open_image(c).size for c in files.values())
    return {
        "photographs": name,
        "images": len(files),
        "reduced": reduced,
        "size": f"{transform.settings.height} x {transform.settings.width}",
        **times,
        "speedup": round(times["ready_full_ms"]["median"] / times["ready_fast_ms"]["median"], 3),
        **pixel_errors([(full(content), fast(content)) for content in files.values()]),
        "model": model,
        **(agreement(model, files) if is_cached(weight_set) else {"same_top1": None, "least_cosine": None}),
    }


def pixel_errors(pairs: list[tuple[Pixels, Pixels]]) -> dict[str, float]:
    """Absolute differences in levels: the mean over all, that of the worst image, and the largest."""
    errors = [np.abs(one.astype(np.int16) - other) for one, other in pairs]
    means = [float(error.mean()) for error in errors]
    return {
        "mean_error": round(float(np.mean(means)), 4),
        "worst_mean_error": round(max(means), 4),
        "largest_error": int(max(error.max() for error in errors)),
    }


def agreement(model: str, files: dict[str, bytes]) -> dict[str, Any]:
    """How many images keep their best class, and the least cosine between their two embeddings."""
    from convit.inference import Classifier, Embedder

    contents = list(files.values())
    best: list[list[int]] = []
    vectors: list[np.ndarray] = []
    for fast_decode in (False, True):
        classifier = Classifier(model, top_k=1, fast_decode=fast_decode)
        best.append([found[0].index for found in classifier(contents)])
        vectors.append(Embedder(classifier.model, normalize=True, fast_decode=fast_decode)(contents))
    same = sum(one == other for one, other in zip(*best, strict=True))
    cosines = (vectors[0] * vectors[1]).sum(axis=1)
    return {"same_top1": same, "least_cosine": round(float(cosines.min()), 5)}


def main() -> None:
    from benchmarks.machine import benchmark_parser, keep_rows

    parser = benchmark_parser(__doc__, rounds=7)
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders of JPEG photographs")
    parser.add_argument("--models", nargs="+", default=list(MODELS), help="whose preprocessing is used")
    given = parser.parse_args()
    sets = {"collages": make_collages()} | {folder.name: read_folder(folder) for folder in given.data}
    rows = (compare(*each, model, given.rounds) for model in given.models for each in sets.items())
    keep_rows("decoding", rows, dry=given.dry)


if __name__ == "__main__":
    main()
