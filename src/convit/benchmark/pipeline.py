"""Images per second from JPEG files: reading, decoding and resizing included, through `convit.Classifier`."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from convit.benchmark.building import build_entry, build_reference, image_size, make_images
from convit.benchmark.cases import Case
from convit.benchmark.comparing import compare_outputs
from convit.benchmark.rows import Row, make_row, with_ratios
from convit.benchmark.timing import alternate
from convit.images import find_images
from convit.inference import Classifier

PHOTOGRAPHS = 64
# widths and heights that cameras, phones and the web have
SIZES = ((1600, 1200), (1200, 1600), (1024, 768), (640, 480), (500, 375))


def measure_pipeline(case: Case) -> list[Row]:
    """Time whole runs over a folder of photographs, everybody in turn; the number of reading threads is the default.

    Returns:
        A row per candidate, ours first; a timed call is a run over all the photographs.

    Raises:
        ValueError: outputs differ that must not, or there is no photograph in the folder, or one that cannot be read.
        And what `build_entry` raises.
    """
    reference = build_reference(case)
    entries = [build_entry(case, candidate, reference) for candidate in case.candidates()]
    images = make_images(case, reference)
    differences = compare_outputs(reference, [(entry, images) for entry in entries])
    waiting: dict[str, list[float]] = {entry.candidate.name: [] for entry in entries}
    with _photographs(case) as paths:
        readers = {
            entry.candidate.name: Classifier(
                entry.module, batch_size=case.batch_size, device=case.torch_device, img_size=image_size(reference)
            )
            for entry in entries
        }

        def run(name: str) -> None:
            for found in readers[name].iterate(paths):
                if found.error is not None:
                    raise ValueError(f"{found.path} cannot be read ({found.error}); leave it out of --data")
            waiting[name].append(readers[name].timings.waiting_share)

        seconds = alternate({name: lambda name=name: run(name) for name in readers}, case.round_count)
    rows = [
        make_row(
            case,
            entry,
            image_size(reference),
            case.batch_size,
            seconds[entry.candidate.name],
            images=len(paths),
            difference=differences.get(entry.candidate.name),
            # the first run warmed up
            waiting_share=round(statistics.median(waiting[entry.candidate.name][1:]), 4),
        )
        for entry in entries
    ]
    return with_ratios(rows)


def make_photographs(folder: Path, count: int) -> None:
    """Fill a folder with JPEG files as costly to decode as photographs: smooth shapes, and grain over them.

    Args:
        folder: exists.
        count: how many; their sizes take turns.
    """
    generator = np.random.default_rng(0)
    for number in range(count):
        width, height = SIZES[number % len(SIZES)]
        coarse = generator.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
        grain = generator.normal(0, 6, (height, width, 1)).astype(np.float32)
        pixels = (smooth + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg", quality=90)


@contextmanager
def _photographs(case: Case) -> Generator[list[Path]]:
    if case.data is not None:
        yield find_images(case.data)
        return
    with tempfile.TemporaryDirectory() as place:
        make_photographs(Path(place), PHOTOGRAPHS)
        yield sorted(Path(place).iterdir())
