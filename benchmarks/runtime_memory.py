"""What ONNX Runtime's options make of the memory of `convit-runtime`, whose target is 100 MB for one photograph.

Each attempt changes how the session of the bundled mini model is started: in fresh processes, called in turn, the
memory at the peak of `convit-runtime classify` and its seconds of CPU; then images per second of CPU in batches of 1
and 8; all in medians. An attempt pays where it takes less memory and no more than 3 % of the speed.

    python benchmarks/runtime_memory.py
    python benchmarks/runtime_memory.py --rounds 2 --dry
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.runtime import install, label, run

MODEL = "convit_mini_patch8_64.tiny_imagenet"
# what each attempt runs before a session starts, with its `file` and `options`
ATTEMPTS = {
    "as it is": "",
    "memory of loading kept": "sessions._give_memory_back = lambda: None",
    "no arena": "options.enable_cpu_mem_arena = False",
    "no memory patterns": "options.enable_mem_pattern = False",
    "no prepacking": "options.add_session_config_entry('session.disable_prepacking', '1')",
    "weights from the device's allocator": (
        "options.add_session_config_entry('session.use_device_allocator_for_initializers', '1')"
    ),
    "graph not optimized": "options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL",
    "graph optimized at export": (
        "file = file.replace('model.onnx', 'ahead.onnx'); "
        "options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL"
    ),
    "weights in a second file": "file = file.replace('model.onnx', 'external.onnx')",
    "weights in a second file, no prepacking": (
        "file = file.replace('model.onnx', 'external.onnx'); "
        "options.add_session_config_entry('session.disable_prepacking', '1')"
    ),
    "ORT format, its bytes as weights": (
        "file = file.replace('model.onnx', 'model.ort'); "
        "options.add_session_config_entry('session.use_memory_mapped_ort_model', '1'); "
        "options.add_session_config_entry('session.use_ort_model_bytes_for_initializers', '1')"
    ),
}
# argv: the attempt, then what `convit-runtime` takes, or a folder whose file is timed
_STARTED = """
import json, statistics, sys, time
import numpy as np, onnxruntime as ort
from convit_runtime.inference import sessions
code, started = compile(sys.argv.pop(1), "attempt", "exec"), ort.InferenceSession
def start(file, options, **more):
    given = {"file": file, "options": options, "ort": ort, "sessions": sessions}
    exec(code, given)
    return started(given["file"], options, **more)
ort.InferenceSession = start
if sys.argv[1] == "classify":
    from convit_runtime.cli import main
    sys.exit(main(sys.argv[1:]))
from convit_runtime.inference.exported import ExportedModel
model, found = ExportedModel(sys.argv[1], threads=1), []
for batch in (1, 8):
    pixels, seconds = np.zeros((batch, *model.settings.input_size[1:], 3), np.uint8), []
    for _ in range(40):
        begun = time.process_time()
        model.run(pixels)
        seconds.append(time.process_time() - begun)
    found.append(batch / statistics.median(seconds))
print(json.dumps(found))
"""


def write_files(folder: Path) -> None:
    """Export the model, and put beside the file what the attempts read in its place."""
    import onnx
    import onnxruntime as ort

    from convit.export import export_model
    from convit.weights import create_model

    export_model(create_model(MODEL, pretrained=True), folder)
    whole = onnx.load(folder / "model.onnx")
    onnx.save(whole, folder / "external.onnx", save_as_external_data=True, location="external.data")
    for name, entries in (("ahead.onnx", {}), ("model.ort", {"session.save_model_format": "ORT"})):
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(folder / name)
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])


def measure(python: Path, folder: Path, photograph: Path, rounds: int) -> list[dict[str, Any]]:
    """A row for each attempt; they take turns."""
    labeled: dict[str, list[tuple[float, float]]] = {name: [] for name in ATTEMPTS}
    speeds: dict[str, list[list[float]]] = {name: [] for name in ATTEMPTS}
    for _ in range(rounds):
        for name, code in ATTEMPTS.items():
            start = [str(python), "-I", "-c", _STARTED, code]
            labeled[name].append(label([*start, "classify", str(photograph), "--model", str(folder)]))
            speeds[name].append(json.loads(run(*start, folder)))
    return [
        {
            "attempt": name,
            "memory_mb": statistics.median(memory for _, memory in labeled[name]),
            "cpu_seconds": statistics.median(seconds for seconds, _ in labeled[name]),
            "images_per_second": [statistics.median(each) for each in zip(*speeds[name], strict=True)],
            "rounds": rounds,
        }
        for name in ATTEMPTS
    ]


def measure_all(rounds: int) -> Iterator[dict[str, Any]]:
    """The rows, of an environment and files that are made for them."""
    from benchmarks.folder import one_photograph

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_files(folder / "mini")
        photograph = one_photograph(folder / "photographs")
        yield from measure(install(folder / "plain"), folder / "mini", photograph, rounds)


def main() -> None:
    from benchmarks.machine import benchmark_parser, keep_rows

    parser = benchmark_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    keep_rows("runtime_memory", measure_all(given.rounds), dry=given.dry)


if __name__ == "__main__":
    main()
