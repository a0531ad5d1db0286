"""Parity of numbers: ours and timm's against float64, outputs and gradients, with shaken weights.

Measures the largest difference over the largest value, for logits and for the gradient of their mean square with
respect to all parameters, on random images; the largest of several draws of weights. The reference is timm's model in
float64 on its own square grid, and our plain twin (the paper's equations as written) in float64 on 7 x 28 patches,
which timm gets wrong. `tests/shaken.py` moves the weights until logits have a standard deviation of at least 1
and gates lie in [0.02, 0.98]. Targets: ours within 1e-9 in float64, 2 x timm's error in fp32, 1.1 x in bf16.

    python benchmarks/parity.py
    python benchmarks/parity.py --models convit_tiny --draws 1 --dry
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.machine import benchmark_parser, keep_rows
from convit.model import VARIANTS, ConViT
from tests.shaken import relative_error, shake

DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16}
TARGETS = {"fp64": 1e-9, "fp32": 2.0, "bf16": 1.1}
Case = tuple[nn.Module, dict[str, nn.Module], tuple[int, int]]


def build_case(name: str, grid: str, seed: int) -> Case:
    """The float64 reference, the models to compare with it, and the image's height and width."""
    ours = ConViT(VARIANTS[name].config).double().eval()
    if grid == "14 x 14":
        theirs = timm.create_model(name).double().eval()
        shake(theirs, seed)
        ours.load_state_dict(theirs.state_dict())
        return theirs, {"timm": theirs, "ours": ours}, (224, 224)
    shake(ours, seed)
    plain = ConViT(ours.config).double().eval()
    plain.load_state_dict(ours.state_dict())
    plain.set_attention("plain")
    return plain, {"plain twin": plain, "ours": ours}, (112, 448)


def run(model: nn.Module, images: Tensor, precision: str) -> dict[str, Tensor]:
    """Logits and the gradient of their mean square, in one precision; the model is left as it was."""
    model.to(DTYPES[precision]).zero_grad()
    logits = model(images.to(DTYPES[precision]))
    logits.double().square().mean().backward()
    # The bias of pos_proj cancels in the softmax: its gradient is nothing but rounding.
    chosen = [p for name, p in sorted(model.named_parameters()) if not name.endswith("pos_proj.bias")]
    gradient = torch.cat([p.grad.double().flatten() for p in chosen if p.grad is not None])
    return {"logits": logits.detach().double(), "gradient": gradient}


def check_shaken(model: nn.Module, logits: Tensor) -> None:
    """Refuse weights that would hide mistakes."""
    gates = [torch.sigmoid(p) for name, p in model.named_parameters() if name.endswith("gating_param")]
    low, high = torch.cat(gates).detach().aminmax()
    if logits.std() < 1 or low < 0.02 or high > 0.98:
        raise SystemExit(f"refused: logits deviate by {logits.std():.2f} and gates lie in [{low:.3f}, {high:.3f}]")


def measure(name: str, grid: str, draws: int, batch: int) -> list[dict[str, Any]]:
    """Errors of one variant on one grid, the largest of several draws of weights and images."""
    worst: dict[tuple[str, str, str], float] = {}
    for seed in range(draws):
        reference, models, (height, width) = build_case(name, grid, seed)
        weights = {label: {k: v.clone() for k, v in model.state_dict().items()} for label, model in models.items()}
        images = torch.randn(batch, 3, height, width, dtype=torch.float64)
        exact = run(reference, images, "fp64")
        check_shaken(reference, exact["logits"])
        for precision in DTYPES:
            for label, model in models.items():
                model.to(torch.float64).load_state_dict(weights[label])  # rounding to bf16 loses them
                for what, values in run(model, images, precision).items():
                    error = relative_error(values, exact[what])
                    key = (precision, what, label)
                    worst[key] = max(worst.get(key, 0.0), error)
    rival = next(label for _, _, label in worst if label != "ours")
    return [
        _row(name, grid, precision, what, rival, worst[precision, what, rival], worst[precision, what, "ours"])
        for precision in DTYPES
        for what in ("logits", "gradient")
    ]


def _row(name: str, grid: str, precision: str, what: str, rival: str, theirs: float, ours: float) -> dict[str, Any]:
    limit = TARGETS["fp64"] if precision == "fp64" else TARGETS[precision] * theirs
    return {
        "model": name,
        "grid": grid,
        "precision": precision,
        "what": what,
        "against": rival,
        "their_error": float(f"{theirs:.3g}"),
        "our_error": float(f"{ours:.3g}"),
        "limit": float(f"{limit:.3g}"),
        "holds": bool(ours <= limit),
    }


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--models", nargs="+", default=["convit_tiny", "convit_small", "convit_base"])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2)
    given = parser.parse_args()
    torch.manual_seed(0)
    cases = ((name, grid) for name in given.models for grid in ("14 x 14", "7 x 28"))
    rows = (row for case in cases for row in measure(*case, given.draws, given.batch))
    keep_rows("parity", rows, dry=given.dry)


if __name__ == "__main__":
    main()
