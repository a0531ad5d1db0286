"""Speed against timm: convit_base, convit_small and convit_tiny with equal weights.

Measures the time of one forward pass of timm's model and of ours: both eager, in inference_mode, on the same number of
threads, called alternately in one process; medians and quartiles of the rounds. Outputs are compared before anything is
timed, and the benchmark stops where they differ. Targets (2 CPU threads, convit_base): fp32 1.3 x at batch 1 and 1.45 x
at batch 8, bf16 1.5 x and 1.8 x.

    python benchmarks/speed.py                          # everything, on 2 threads
    python benchmarks/speed.py --models convit_tiny --rounds 3 --dry    # a quick look; keeps no result
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe_machine, print_machine, save_result
from convit.benchmark.shaken import relative_error, shake
from convit.benchmark.timing import alternate, summarise
from convit.model import VARIANTS, ConViT

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Largest difference between the two models' logits over the largest logit: each has at most its own rounding error.
ALLOWED = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.02}
TARGETS = {("fp32", 1): 1.3, ("fp32", 8): 1.45, ("bf16", 1): 1.5, ("bf16", 8): 1.8}


def build_pair(name: str, device: str) -> dict[str, nn.Module]:
    """Make timm's model and ours with the same weights, in fp32."""
    theirs = timm.create_model(name).eval()
    shake(theirs, seed=0)
    ours = ConViT(VARIANTS[name].config).eval()
    ours.load_state_dict(theirs.state_dict())
    return {"timm": theirs.to(device), "ours": ours.to(device)}


def compare_outputs(pair: dict[str, nn.Module], images: torch.Tensor, precision: str) -> float:
    """How far the outputs lie apart.

    Raises:
        SystemExit: too far for their times to be comparable.
    """
    error = relative_error(pair["ours"](images), pair["timm"](images))
    if not error <= ALLOWED[precision]:
        raise SystemExit(f"refused: outputs differ by {error:.2g} in {precision}, allowed are {ALLOWED[precision]:g}")
    return error


@torch.inference_mode()
def measure(name: str, device: str, precision: str, batch: int, rounds: int) -> dict[str, Any]:
    """Time one variant in one precision at one batch size."""
    # half precisions lose what they are given: weights are drawn anew each time
    pair = {label: model.to(DTYPES[precision]) for label, model in build_pair(name, device).items()}
    images = torch.randn(batch, 3, 224, 224, device=device).to(DTYPES[precision])
    error = compare_outputs(pair, images, precision)
    settle = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    seconds = alternate({label: lambda m=model: m(images) for label, model in pair.items()}, rounds, settle)
    times = {label: summarise(values) for label, values in seconds.items()}
    return {
        "model": name,
        "precision": precision,
        "batch": batch,
        "rounds": rounds,
        "timm_ms": times["timm"],
        "ours_ms": times["ours"],
        "ratio": round(times["timm"]["median"] / times["ours"]["median"], 3),
        "ratio_of_least": round(times["timm"]["least"] / times["ours"]["least"], 3),
        "target": TARGETS.get((precision, batch)) if name == "convit_base" and device == "cpu" else None,
        "difference": float(f"{error:.3g}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["convit_base", "convit_small", "convit_tiny"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=DTYPES)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dry", action="store_true", help="keep no result")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    machine = describe_machine(given.device)
    print_machine(machine)
    rows: list[dict[str, Any]] = []
    for name in given.models:
        for precision in given.precisions:
            for batch in given.batches:
                row = measure(name, given.device, precision, batch, given.rounds)
                rows.append(row)
                print(
                    f"{name:12} {precision} batch {batch}: timm {row['timm_ms']['median']:8.1f} ms  ours "
                    f"{row['ours_ms']['median']:8.1f} ms  ratio {row['ratio']:.2f}"
                    + (f" (target {row['target']})" if row["target"] else ""),
                    flush=True,
                )
    if not given.dry:
        print(save_result("speed", machine, rows))


if __name__ == "__main__":
    main()
