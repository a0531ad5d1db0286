"""Images per second from JPEG files: reading, decoding and resizing included, through `convit.Classifier`.

    python benchmarks/pipeline.py --model convit_tiny --against eager,timm:convit_tiny [--data FOLDER]

Everybody labels the same photographs in turn, those of `benchmarks/folder.py` unless a folder is named; the number of
reading threads is the default. `benchmarks/targets.py --only pipeline` judges the share of the time that is spent
waiting.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.folder import make_photographs
from convit.benchmark import Case, Row, print_rows
from convit.benchmark.building import build_entry, build_reference, image_size, make_images
from convit.benchmark.comparing import compare_outputs
from convit.benchmark.rows import make_row, with_ratios
from convit.benchmark.timing import alternate
from convit.images import find_images
from convit.inference import Classifier

PHOTOGRAPHS = 64


@dataclass(frozen=True)
class PipelineRow(Row):
    """A row whose timed calls are runs over all photographs.

    Attributes:
        waiting_share: part of the time in which the model stood still because no image was decoded; 0 to 1.
    """

    waiting_share: float = 0.0


def measure_pipeline(case: Case, data: Path | None = None) -> list[PipelineRow]:
    """Time whole runs over a folder of photographs, everybody in turn.

    Args:
        case: who is measured; its precision is how outputs are computed.
        data: folder of photographs; None makes some.

    Returns:
        A row per candidate, ours first.

    Raises:
        ValueError: outputs differ that must not, or there is no photograph in the folder, or one that cannot be read.
        And what `build_entry` raises.
    """
    reference = build_reference(case)
    entries = [build_entry(case, candidate, reference) for candidate in case.candidates()]
    images = make_images(case, reference)
    differences = compare_outputs(reference, [(entry, images) for entry in entries])
    waiting: dict[str, list[float]] = {entry.candidate.name: [] for entry in entries}
    with _photographs(data) as paths:
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
    rows: list[PipelineRow] = []
    for entry in entries:
        name = entry.candidate.name
        row = make_row(
            case, entry, image_size(reference), case.batch_size, seconds[name], difference=differences.get(name)
        )
        fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
        speed = round(1000 * len(paths) / row.step_ms["median"], 3)
        share = round(statistics.median(waiting[name][1:]), 4)  # the first run warmed up
        rows.append(PipelineRow(**fields | {"images_per_second": speed, "waiting_share": share}))
    return with_ratios(rows)


@contextmanager
def _photographs(data: Path | None) -> Generator[list[Path]]:
    if data is not None:
        yield find_images(data)
        return
    with tempfile.TemporaryDirectory() as place:
        make_photographs(Path(place), PHOTOGRAPHS)
        yield sorted(Path(place).iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="convit_tiny")
    parser.add_argument("--against", default="eager", help="as `convit benchmark` takes it")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, help="folder of photographs; made unless given")
    given = parser.parse_args()
    against = tuple(given.against.split(","))
    case = Case(given.model, against, device=given.device, precision=given.precision, rounds=given.rounds)
    case.check()
    rows = measure_pipeline(case, given.data)
    print_rows(rows, sys.stdout)
    for row in rows:
        print(f"{row.candidate}: {100 * row.waiting_share:.0f} % of the time spent waiting for data")


if __name__ == "__main__":
    main()
