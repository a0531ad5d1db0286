"""How close labeling JPEG files comes to what the processor allows: decoding and the model together.

What it allows is counted first: the CPU time of decoding, resizing and the model, image after image in one thread; so
many cores do so many images a second at best. Then `Classifier.iterate` runs over the same files as the commands run
it, with several numbers of reading threads in turn. Target: 95 % of the possible, with the number that is the default.

The photographs are scikit-image's (public domain), laid side by side to 1, 4 and 12 megapixels; weights are random.

    python benchmarks/folder.py
    python benchmarks/folder.py --models convit_tiny --megapixels 1 --fast-decode --dry
    python benchmarks/folder.py --models convit_tiny --data photographs/
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convit.inference import Classifier

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

TARGET = 95.0
MEGAPIXELS = {1: (1152, 864), 4: (2304, 1728), 12: (4000, 3000)}  # (width, height)
MODELS = ("convit_mini_patch8_64", "convit_tiny", "convit_small", "convit_base")
WORKERS = (1, 2, 4)


def measure(
    name: str, megapixels: int | str, files: list[Path], rounds: int, *, precision: str, fast_decode: bool
) -> dict[str, Any]:
    """What the processor allows, and what is reached with each number of reading threads."""
    import torch

    from convit.inference import Classifier
    from convit.inference.predicting import default_workers
    from convit.optimization import optimize
    from convit.optimization.timing import alternate
    from convit.weights import create_model

    cores = torch.get_num_threads()
    model = optimize(create_model(name).eval(), precision)
    alone = Classifier(model, workers=0, fast_decode=fast_decode)
    few = files[: 2 * alone.batch_size]
    torch.set_num_threads(1)
    total = min(cpu_seconds(lambda: _label(alone, few)) for _ in range(rounds)) / len(few)
    reading = min(cpu_seconds(lambda: list(map(alone._read, few))) for _ in range(rounds)) / len(few)
    torch.set_num_threads(cores)
    counts = sorted({*WORKERS, default_workers()})
    readers = {f"{count}": Classifier(model, workers=count, fast_decode=fast_decode) for count in counts}
    _label(readers["1"], few)
    calls = {count: partial(_label, reader, files) for count, reader in readers.items()}
    seconds = alternate(calls, rounds, warm_ups=0)
    speeds = {count: len(files) / statistics.median(each) for count, each in seconds.items()}
    return {
        "model": name,
        "precision": model.plan.dtype,
        "megapixels": megapixels,
        "fast_decode": fast_decode,
        "images": len(files),
        "reading_ms": round(1000 * reading, 2),
        "model_ms": round(1000 * (total - reading), 2),
        "cores": cores,
        "possible": round(cores / total, 2),
        "images_per_second": {count: round(speed, 2) for count, speed in speeds.items()},
        "workers": default_workers(),
        "share_percent": round(100 * speeds[f"{default_workers()}"] * total / cores, 1),
        "target_percent": TARGET,
    }


def cpu_seconds(call: Callable[[], object]) -> float:
    """CPU time of a call, all threads together; less disturbed than its duration where others use the machine."""
    start = time.process_time()
    call()
    return time.process_time() - start


def _label(classifier: Classifier, files: list[Path]) -> None:
    for found in classifier.iterate(files):
        assert found.error is None, found.error


def measure_all(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each size of photographs, model and precision."""
    with tempfile.TemporaryDirectory() as place:
        for megapixels, files in photographs(given, Path(place)):
            for name in given.models:
                for precision in given.precision:
                    options = {"precision": precision, "fast_decode": given.fast_decode}
                    yield measure(name, megapixels, files, given.rounds, **options)


def photographs(given: argparse.Namespace, place: Path) -> Iterator[tuple[int | str, list[Path]]]:
    """The photographs of each size, made in a folder, or those of --data."""
    from benchmarks.decoding import make_collage
    from convit.images import find_images

    if given.data is not None:
        yield given.data.name, find_images(given.data)
        return
    for megapixels in given.megapixels:
        content = make_collage(MEGAPIXELS[megapixels])
        files = [place / f"{megapixels}-{number:03}.jpg" for number in range(given.images)]
        for file in files:
            file.write_bytes(content)
        yield megapixels, files


def main() -> None:
    from benchmarks.machine import benchmark_parser, keep_rows

    parser = benchmark_parser(__doc__, rounds=3)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--megapixels", nargs="+", type=int, default=list(MEGAPIXELS), choices=list(MEGAPIXELS))
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--fast-decode", action="store_true", help="as the commands' option")
    parser.add_argument("--data", type=Path, help="use these photographs instead; saves no result")
    given = parser.parse_args()
    keep_rows("folder", measure_all(given), dry=given.dry or given.data is not None)


if __name__ == "__main__":
    main()
