"""Memory for large images: convit_tiny at 1024 x 1024 against timm's, one fresh process per measurement.

Measures the peak of resident memory during one forward pass (fp32, inference_mode, batch 1, 2 threads), over what the
process held when the model was loaded and the image made. The kernel's own high-water mark is used (VmHWM, set back
through /proc/self/clear_refs just before the pass), so that no peak is missed; Linux only. Ours is the model for
224 x 224 whose position embedding is resampled on the fly; timm's is built with img_size=1024. Target: at most 250 MB.

    python benchmarks/memory.py              # three processes each
    python benchmarks/memory.py --size 512 --repeats 1 --dry
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

TARGET_MB = 250.0


def read_memory(field: str) -> int:
    """A field of /proc/self/status in bytes: VmRSS (held now) or VmHWM (its high-water mark)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}; this benchmark needs Linux")


def peak_of_one_pass(which: str, size: int, threads: int) -> dict[str, float]:
    """Bytes over the loaded model that one forward pass takes at its peak, in this process."""
    import torch

    torch.set_num_threads(threads)
    if which == "ours":
        from convit.model import VARIANTS, ConViT

        model: torch.nn.Module = ConViT(VARIANTS["convit_tiny"].config).eval()
    else:
        import timm

        model = timm.create_model("convit_tiny", img_size=size).eval()
    with torch.inference_mode():
        images = torch.randn(1, 3, size, size)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what construction left free must not hide what the pass needs
        held = read_memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        started = read_memory("VmHWM")
        model(images)
    if abs(started - held) > 2e6:
        raise SystemExit(f"the high-water mark was not set back ({started} bytes, held {held}); results would be wrong")
    return {"held_mb": held / 1e6, "peak_mb": (read_memory("VmHWM") - held) / 1e6}


def measure(which: str, size: int, threads: int, repeats: int) -> list[dict[str, float]]:
    """The same in fresh processes."""
    command = [sys.executable, __file__, "--child", which, "--size", str(size), "--threads", str(threads)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(repeats)]
    return [json.loads(run.stdout.splitlines()[-1]) for run in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="keep no result")
    parser.add_argument("--child", choices=("ours", "timm"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(peak_of_one_pass(given.child, given.size, given.threads)))
        return
    import torch

    from benchmarks.machine import describe_machine, print_machine, save_result

    torch.set_num_threads(given.threads)
    machine = describe_machine()
    print_machine(machine)
    rows: list[dict[str, Any]] = []
    for which in ("ours", "timm"):
        peaks = [run["peak_mb"] for run in measure(which, given.size, given.threads, given.repeats)]
        row = {
            "model": "convit_tiny",
            "by": which,
            "size": given.size,
            "processes": given.repeats,
            "peak_mb": round(statistics.median(peaks), 1),
            "lowest_mb": round(min(peaks), 1),
            "highest_mb": round(max(peaks), 1),
            "target_mb": TARGET_MB if which == "ours" and given.size == 1024 else None,
        }
        rows.append(row)
        print(f"convit_tiny {given.size} x {given.size}, {which}: {row['peak_mb']:.0f} MB over the loaded model")
    if not given.dry:
        print(save_result("memory", machine, rows))


if __name__ == "__main__":
    main()
