"""What each precision costs in accuracy: top-1 and top-5 of the weights in the package on labeled images.

int8 chooses its ranges on 64 images from all over the data, without their labels. Target: at most 1 point of top-1
below fp32 on a CPU, 0.3 points on a GPU (fp8 and int8).

    python benchmarks/accuracy.py test-000000.tar.gz                # CIFAR-10's test images, as `convit evaluate` takes
    python benchmarks/accuracy.py test-000000.tar.gz --device cuda --precisions fp32 bf16 fp8 int8
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

MODEL = "convit_nano_patch4_32.cifar10"
CALIBRATION_IMAGES = 64
TARGETS = {("cpu", "int8"): 1.0, ("cpu", "bf16"): 1.0, ("cuda", "int8"): 0.3, ("cuda", "fp8"): 0.3}


def measure(model: str, data: str, device: str, precision: str) -> dict[str, Any]:
    """Evaluate one model in one precision."""
    from convit.data import evenly_spaced, open_samples
    from convit.evaluation import Evaluator

    images = open_samples(data)
    some = [image.content for image in images.take(evenly_spaced(CALIBRATION_IMAGES, len(images)))]
    evaluator = Evaluator(model, device=device, precision=precision, calibration=some if precision == "int8" else None)
    found = evaluator.evaluate(images)
    return {
        "model": found.model,
        "precision": precision,
        "computed_in": evaluator.model.plan.dtype,
        "images": found.count,
        "data_sha256": found.data_sha256,
        "top1": found.top1,
        "top5": found.top5,
        "loss": found.loss,
    }


def measure_all(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each precision, fp32 first, with its loss of accuracy compared to that."""
    best = None
    for precision in dict.fromkeys(("fp32", *given.precisions)):
        row = measure(given.model, given.data, given.device, precision)
        best = row["top1"] if best is None else best
        target = TARGETS.get((given.device.partition(":")[0], precision))
        yield row | {"lost": round(best - row["top1"], 3), "target": target}


def main() -> None:
    from benchmarks.machine import benchmark_parser, keep_rows

    parser = benchmark_parser(__doc__)
    parser.add_argument("data", help="labeled images, as `convit evaluate` takes them")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16", "int8"])
    given = parser.parse_args()
    keep_rows("accuracy", measure_all(given), dry=given.dry, device=given.device)


if __name__ == "__main__":
    main()
