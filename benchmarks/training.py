"""Training speed against timm: one optimiser step of convit and deit models, in the same loop, from equal weights.

A step is forward, soft cross-entropy, backward and AdamW; bf16 is mixed precision by autocast. timm's ConViT, ours and
timm's DeiT of the same size take turns in one process, so that whatever slows the machine down slows all of them;
medians and quartiles of the rounds. The first losses of the two ConViTs are compared before anything is timed, and the
benchmark stops where they differ. Targets in bf16: 1.4 x timm's ConViT on a CPU, 1.8 x on a GPU.

Where a processor multiplies bf16 numbers more slowly than fp32 ones, `convit train` computes bf16 recipes in fp32; our
bf16 rows are timed so, and "computed in" says it. timm's are timed in the bf16 that was asked for.

    python benchmarks/training.py                                   # tiny, small and base, batch 8, on 2 threads
    python benchmarks/training.py --models tiny --rounds 3 --dry    # a quick look; keeps no result
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import describe_machine, print_machine, save_result
from convit.benchmark.shaken import shake
from convit.benchmark.timing import alternate, summarise
from convit.model import VARIANTS, ConViT
from convit.training.optimisers import build_optimiser
from convit.training.recipe import OptimiserRecipe
from convit.training.trainer import computed_precision

DTYPES = {"fp32": None, "bf16": torch.bfloat16}
ALLOWED = {"fp32": 1e-4, "bf16": 0.05}  # relative difference of the first losses
TARGETS = {"cpu": 1.4, "cuda": 1.8}


def build_models(size: str, device: str) -> dict[str, nn.Module]:
    """The ConViT of timm, ours with the same weights, and timm's DeiT, ready to train."""
    theirs = timm.create_model(f"convit_{size}", num_classes=1000)
    shake(theirs, seed=0)
    ours = ConViT(VARIANTS[f"convit_{size}"].config)
    ours.load_state_dict(theirs.state_dict())
    deit = timm.create_model(f"deit_{size}_patch16_224", num_classes=1000)
    return {name: model.to(device).train() for name, model in (("timm", theirs), ("ours", ours), ("deit", deit))}


def make_step(model: nn.Module, images: Tensor, targets: Tensor, precision: str) -> Callable[[], Tensor]:
    """One training step, which returns its loss."""
    optimiser = build_optimiser(model, OptimiserRecipe(), 1e-5)
    dtype = DTYPES[precision]

    def step() -> Tensor:
        with torch.autocast(images.device.type, dtype, enabled=dtype is not None):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def measure(size: str, device: str, precision: str, batch: int, rounds: int, *, compiled: bool) -> dict[str, Any]:
    """Time one size in one precision.

    Raises:
        SystemExit: the losses differ too much for the times to be comparable.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, 224, 224, generator=generator).to(device)
    targets = torch.softmax(torch.randn(batch, 1000, generator=generator), dim=1).to(device)
    models = build_models(size, device)
    if compiled:
        for model in models.values():
            model.compile()
    own = computed_precision(precision)
    computed = {"timm": precision, "ours": own, "deit": precision}
    steps = {name: make_step(model, images, targets, computed[name]) for name, model in models.items()}
    first = {name: float(steps[name]()) for name in ("timm", "ours")}
    difference = abs(first["ours"] - first["timm"]) / abs(first["timm"])
    if not difference <= ALLOWED[precision]:
        raise SystemExit(f"refused: the first losses differ by {difference:.2g}, allowed are {ALLOWED[precision]:g}")
    settle = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    times = {name: summarise(values) for name, values in alternate(steps, rounds, settle).items()}
    return {
        "model": f"convit_{size}",
        "precision": precision,
        "computed_in": own,
        "compiled": compiled,
        "batch": batch,
        "rounds": rounds,
        **{f"{name}_ms": value for name, value in times.items()},
        "images_per_second": round(1000 * batch / times["ours"]["median"], 2),
        "ratio": round(times["timm"]["median"] / times["ours"]["median"], 3),
        "ratio_to_deit": round(times["deit"]["median"] / times["ours"]["median"], 3),
        "target": TARGETS[device.partition(":")[0]] if precision == "bf16" else None,
        "difference": float(f"{difference:.3g}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tiny", "small", "base"], choices=["tiny", "small", "base"])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=DTYPES)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="all models through torch.compile")
    parser.add_argument("--dry", action="store_true", help="keep no result")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    machine = describe_machine(given.device)
    print_machine(machine)
    rows: list[dict[str, Any]] = []
    for size in given.models:
        for precision in given.precisions:
            row = measure(size, given.device, precision, given.batch, given.rounds, compiled=given.compile)
            rows.append(row)
            print(
                f"{row['model']:12} {precision} batch {given.batch}: timm {row['timm_ms']['median']:8.1f} ms  ours "
                f"{row['ours_ms']['median']:8.1f} ms  ratio {row['ratio']:.2f}"
                + (f" (target {row['target']})" if row["target"] else "")
                + f"  deit {row['deit_ms']['median']:8.1f} ms  ratio {row['ratio_to_deit']:.2f}",
                flush=True,
            )
    if not given.dry:
        print(save_result("training", machine, rows))


if __name__ == "__main__":
    main()
