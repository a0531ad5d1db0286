"""Times the three identities against the equations as written and keeps what is found in docs/identities.

    python docs/identities/make.py measure MODEL    some two minutes; then the table in README.md
    python docs/identities/make.py write            that table from what is kept; --check only compares

MODEL is the name of a variant, such as convit_base.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from documents import fill_section, keep_json, measured_on, read_json, run_tool

DOCS = Path(__file__).resolve().parent
BATCH, GRIDS, ROUNDS = 8, (14, 32), 15
PAGE = DOCS / "README.md"
START, END = "<!-- timing: made by docs/identities/make.py -->\n", "<!-- /timing -->"


def measure(data: str) -> None:
    """Time each identity in one process, the two ways taking turns."""
    import torch

    import convit
    from convit.benchmark.running import describe_machine

    torch.manual_seed(0)
    model = convit.create_model(data).eval()
    rows: list[dict[str, Any]] = []
    with torch.inference_mode():
        for side in GRIDS:
            for what, (written, used) in _ways(model, side).items():
                rows.append({"what": what, "patches": side**2, **_compare(written, used)})
                print(rows[-1], flush=True)
    keep_json(DOCS / "timings.json", {"model": data, "batch": BATCH, "rows": rows, "machine": describe_machine()})


def _ways(model: Any, side: int) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Each identity as two calls, the equations as written first."""
    import torch
    import torch.nn.functional as F

    from convit.model import plain
    from convit.model.positional import apply_axis_attention

    attention, last = model.blocks[0].attn, model.blocks[-1]
    heads, dim, grid = attention.num_heads, model.num_features, (side, side)
    query, key, value = torch.randn(3, BATCH, heads, side**2, dim // heads)
    position, factors = attention.position_attention(grid), attention.position_factors(grid)
    gate = attention.gate[:, None, None]
    tokens = torch.randn(BATCH, side**2 + 1, dim)
    return {
        "1. two readings mixed, not two matrices": (
            lambda: plain.gated_attention(plain.content_attention(query, key), position, attention.gate) @ value,
            lambda: torch.lerp(F.scaled_dot_product_attention(query, key, value), position @ value, gate),
        ),
        "2. position attention as two factors": (
            lambda: position @ value,
            lambda: apply_axis_attention(value, *factors),
        ),
        "3. the last block for the class token alone": (
            lambda: last(tokens, grid)[:, :1],
            lambda: last(tokens, grid, class_only=True),
        ),
    }


def _compare(written: Callable[[], Any], used: Callable[[], Any]) -> dict[str, float]:
    """Medians in ms, and the largest difference relative to the largest value."""
    expected = written()
    seconds: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for place, call in enumerate((written, used)):
            begun = time.perf_counter()
            call()
            seconds[place].append(time.perf_counter() - begun)
    as_written, as_used = (1000 * statistics.median(each) for each in seconds)
    error = ((used() - expected).abs().max() / expected.abs().max()).item()
    return {"written": as_written, "used": as_used, "error": error}


def render() -> str:
    """The page with its table made anew: no figure in it is typed in."""
    found = read_json(DOCS / "timings.json")
    lines = "\n".join(
        f"| {row['what']} | {row['patches']:,} | {row['written']:.1f} | {row['used']:.1f} | "
        f"{row['written'] / row['used']:.1f} x | {row['error']:.0e} |"
        for row in found["rows"]
    )
    about = (
        f"One layer of `{found['model']}`, batch {found['batch']}, fp32, medians of {ROUNDS} calls in turn; the error "
        f"is the largest difference over the largest value. {measured_on(found['machine'])} Whole models are timed in "
        "the benchmarks."
    )
    table = f"""
| identity | patches | as written, ms | as computed, ms | ratio | error |
| --- | ---: | ---: | ---: | ---: | ---: |
{lines}

{fill(about, 120)}

"""
    return fill_section(PAGE.read_text(encoding="utf-8"), START, END, table)


if __name__ == "__main__":
    sys.exit(run_tool(PAGE, __doc__, render, measure))
