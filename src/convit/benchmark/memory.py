"""Memory and time for an image size: one fresh process per measurement, so that nothing is there from before.

On a CPU the peak is the kernel's own high-water mark (VmHWM, set back through /proc/self/clear_refs just before the
pass), so that none is missed: Linux only. On a GPU it is PyTorch's count.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import logging
import pickle
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from convit.benchmark.building import Entry, build_entry, build_reference, image_size, make_images
from convit.benchmark.candidates import Candidate
from convit.benchmark.cases import Case
from convit.benchmark.comparing import compare_outputs
from convit.benchmark.rows import Row, make_row, with_ratios
from convit.benchmark.throughput import gpu_memory
from convit.benchmark.timing import alternate, settling
from convit.output.text import is_out_of_memory

_log = logging.getLogger(__name__)
_UNSET = 2e6  # bytes by which the high-water mark may differ from what is held, once it was set back


def measure_memory(case: Case) -> list[Row]:
    """Peak over the loaded model and time of a forward pass, processes of everybody in turn.

    The first process of each also compares its outputs with our model's in fp32. The peak is that of two passes, in
    which weights may be laid out anew for good ("kept_mb"), after one that compiles compiled code. Where a runtime
    takes its working memory while it loads ("openvino"), it shows in what is held. Who has no room is left out.

    Raises:
        ValueError: outputs differ that must not, or the memory of a CPU cannot be read on this system.
        MemoryError: ours has no room for the batch.
        RuntimeError: a process failed otherwise.
    """
    if case.torch_device.type == "cpu" and sys.platform != "linux":
        raise ValueError(f"memory on a CPU is read from /proc, which {sys.platform} has not; measure on Linux or a GPU")
    found: dict[str, list[dict[str, Any]]] = {}
    left_out: set[str] = set()
    for number in range(case.round_count):
        for candidate in case.candidates():
            if candidate.name not in left_out:
                seen = run_process(case, candidate, compares=number == 0)
                if seen is None:
                    _log.warning("%s is left out: it does not fit in memory", candidate.name)
                    left_out.add(candidate.name)
                else:
                    found.setdefault(candidate.name, []).append(seen)
    return with_ratios([_row(case, runs) for runs in found.values()])


def run_process(case: Case, candidate: Candidate, *, compares: bool) -> dict[str, Any] | None:
    """What `measure_here` gives in a process of its own; None if another candidate than ours has no room."""
    command = [sys.executable, "-m", "convit.benchmark.memory"]
    done = subprocess.run(command, input=pickle.dumps((case, candidate, compares)), capture_output=True, check=False)
    if done.returncode == 0:
        said = pickle.loads(bytes.fromhex(done.stdout.splitlines()[-1].decode("ascii")))
    elif done.returncode == -9:
        said = MemoryError()  # a process that the system kills for its memory says nothing any more
    else:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        said = RuntimeError(f"{candidate.name}: {(lines or ['no message'])[-1]}")
    if not isinstance(said, Exception):
        return said
    if not is_out_of_memory(said):
        raise said
    if candidate.relation == "ours":
        raise MemoryError(f"{candidate.name} does not fit in memory; use a smaller --size") from said
    return None


def measure_here(case: Case, candidate: Candidate, *, compares: bool) -> dict[str, Any]:
    """Peak and time of a forward pass in this process, which has done nothing else yet.

    Returns:
        "held" before, "peak" over it and "kept" of that in bytes, "seconds" of a third pass, "difference" of its
        outputs where it `compares` them afterward, "size" and "entry", the latter without its module.
    """
    if case.threads is not None:
        torch.set_num_threads(case.threads)
    reference = build_reference(case)
    entry = build_entry(case, candidate, reference)
    images = make_images(case, reference).to(entry.dtype)
    with torch.inference_mode():
        if candidate.compiled:
            entry.module(images)
        measured: dict[str, Any] = _peak_of_passes(entry, images, case.torch_device)
        timed = alternate({"pass": lambda: entry.module(images)}, 1, settling(case.torch_device), warm_ups=0)
        measured["seconds"] = timed["pass"][0]
    difference = compare_outputs(reference, [(entry, images)]).get(candidate.name) if compares else None
    without_module = dataclasses.replace(entry, module=torch.nn.Identity())
    return {**measured, "difference": difference, "size": image_size(reference), "entry": without_module}


def read_memory(field: str) -> int:
    """A field of /proc/self/status in bytes: VmRSS (held now) or VmHWM (its high-water mark)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {field}; memory on a CPU can be measured on Linux only")


def _peak_of_passes(entry: Entry, images: torch.Tensor, device: torch.device) -> dict[str, int]:
    """As `gpu_memory`, of two passes on any device."""
    gc.collect()

    def pass_twice() -> None:
        entry.module(images)
        entry.module(images)

    if device.type == "cuda":
        return gpu_memory(pass_twice, device)
    trim = ctypes.CDLL(None).malloc_trim
    trim(0)  # what construction left free must not hide what the passes need
    held = read_memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    started = read_memory("VmHWM")
    if abs(started - held) > _UNSET:
        raise ValueError(
            f"the high-water mark was not set back ({started} bytes, held {held}); memory cannot be measured"
        )
    pass_twice()
    peak = read_memory("VmHWM")
    trim(0)
    return {"held": held, "peak": peak - held, "kept": max(0, read_memory("VmRSS") - held)}


def _row(case: Case, runs: list[dict[str, Any]]) -> Row:
    first, peaks = runs[0], [run["peak"] / 1e6 for run in runs]
    return make_row(
        case,
        first["entry"],
        first["size"],
        case.batch_size,
        [run["seconds"] for run in runs],
        difference=first["difference"],
        memory_mb=round(statistics.median(peaks), 1),
        memory_range_mb=(round(min(peaks), 1), round(max(peaks), 1)),
        kept_mb=round(statistics.median(run["kept"] / 1e6 for run in runs), 1),
        held_mb=round(statistics.median(run["held"] / 1e6 for run in runs), 1),
    )


def main() -> None:
    """What a child process does: measure the pickled candidate on standard input, and print the pickled outcome."""
    case, candidate, compares = pickle.load(sys.stdin.buffer)
    try:
        said = measure_here(case, candidate, compares=compares)
    except (ValueError, ImportError, MemoryError, RuntimeError) as error:
        said = error
    sys.stdout.write(pickle.dumps(said).hex() + "\n")


if __name__ == "__main__":
    main()
