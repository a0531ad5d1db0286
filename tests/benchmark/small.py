"""What the tests of benchmarks share: a case that takes milliseconds, and rows made up."""

from typing import Any

from convit.benchmark.cases import Case
from convit.benchmark.cost import Cost
from convit.benchmark.rows import Row

NANO = "convit_nano_patch4_32"
COST = Cost(
    parameters=86_540_000,
    macs=17_520_000_000,
    activations=31_770_000,
    executed=16_300_000_000,
    tokens=196,
    position=1_000_000,
)


def small_case(**fields: Any) -> Case:
    """Two images of 32 x 32 pixels through the smallest model, ours against its eager form."""
    return Case(**{"model": NANO, "against": ("eager",), "device": "cpu", "batch": 2, "rounds": 2} | fields)


def made_row(**fields: Any) -> Row:
    """A row of made-up numbers."""
    known: dict[str, Any] = {
        "mode": "infer",
        "model": "convit_base",
        "candidate": "ours",
        "architecture": "convit_base",
        "relation": "ours",
        "weights": "drawn",
        "device": "cpu",
        "precision": "fp32",
        "computed_in": "fp32",
        "backend": "torch",
        "compiled": False,
        "height": 224,
        "width": 224,
        "batch": 8,
        "batch_asked": 8,
        "rounds": 5,
        "step_ms": {"median": 800.0, "low": 790.0, "high": 812.5, "least": 780.0},
        "images_per_second": 10.0,
        "cost": COST,
    }
    return Row(**known | fields)


ROWS = [
    made_row(ratio=1.0, difference=5e-7, peak_share=0.816),
    made_row(
        candidate="timm:convit_base", relation="equal", images_per_second=5.0, batch=4, ratio=2.0, difference=1e-6
    ),
    made_row(
        candidate="timm:deit_base_patch16_224+compile",
        architecture="deit_base_patch16_224",
        relation="another",
        precision="bf16",
        images_per_second=8.0,
        compiled=True,
        backend="compiled",
        ratio=1.25,
    ),
]
