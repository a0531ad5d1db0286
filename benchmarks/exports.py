"""An exported ConViT in ONNX Runtime beside timm's own export of the same weights.

Both files stand in one process, in sessions with the same options, and are called in turn on the same images; their
logits are compared first. timm's file is what `timm.utils.onnx.onnx_export` writes, with its defaults and with the
newer exporter, whichever is faster. Target: 1.35 times timm's images per second for convit_base, at the better batch.
OpenVINO's bf16 against timm eager has a target for processors with AMX alone (5 x): there was none to measure on.

    python benchmarks/exports.py
    python benchmarks/exports.py --models convit_tiny --rounds 3 --dry
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from convit.benchmark.timing import alternate, summarize

TARGET = 1.35
BATCHES = (1, 8)
MODELS = ("convit_base", "convit_tiny")


def write_ours(model: Any, folder: Path) -> Path:
    """Our file, with float input as timm's has."""
    from convit.export import ExportSettings, export_model

    export_model(model, folder / "ours", ExportSettings(input="float", outputs="logits"))
    return folder / "ours" / "model.onnx"


def write_theirs(model: Any, folder: Path, *, newer: bool) -> Path:
    """Timm's file."""
    from timm.utils.onnx import onnx_export

    path = folder / f"timm-{newer}.onnx"
    options: dict[str, Any] = {"batch_size": 2, "use_dynamo": newer, "check": False}
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        onnx_export(model, str(path), **options)
    return path


def start(path: Path, threads: int) -> Any:
    """A session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measure(name: str, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Both exports of a model at each batch size."""
    import timm

    import convit

    torch.manual_seed(0)
    ours = convit.create_model(name).eval()
    theirs = timm.create_model(name).eval()
    theirs.load_state_dict(ours.state_dict())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        files = {"ours": write_ours(ours, folder)}
        files["timm"] = write_theirs(theirs, folder, newer=False)
        files["timm, newer exporter"] = write_theirs(theirs, folder, newer=True)
        sessions = {who: start(path, threads) for who, path in files.items()}
        return [measure_one(name, sessions, batch, rounds) for batch in BATCHES]


def measure_one(name: str, sessions: dict[str, Any], batch: int, rounds: int) -> dict[str, Any]:
    """Everybody in turn on one batch."""
    images = torch.randn(batch, 3, 224, 224).numpy()
    calls = {who: lambda s=s: s.run(None, {s.get_inputs()[0].name: images}) for who, s in sessions.items()}
    logits = {who: call()[0] for who, call in calls.items()}
    apart = max(abs(logits["ours"] - found).max() / abs(found).max() for found in logits.values())
    assert apart < 1e-4, f"the exports of {name} differ by {apart:.1e}"
    times = {who: summarize(values) for who, values in alternate(calls, rounds).items()}
    fastest = min((who for who in times if who != "ours"), key=lambda who: times[who]["median"])
    ratio = times[fastest]["median"] / times["ours"]["median"]
    return {
        "model": name,
        "batch": batch,
        "rounds": rounds,
        "ours_ms": times["ours"],
        "theirs": fastest,
        "theirs_ms": times[fastest],
        "ratio": round(ratio, 3),
        "difference": float(apart),
    }


def judge(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A model's rows with target and outcome: its better batch counts."""
    target = TARGET if rows[0]["model"] == "convit_base" else None
    met = None if target is None else max(row["ratio"] for row in rows) >= target
    return [{**row, "target": target, "met": met} for row in rows]


def main() -> None:
    from benchmarks.machine import benchmark_parser, keep_rows

    parser = benchmark_parser(__doc__, rounds=11)
    parser.add_argument("--models", nargs="+", default=MODELS)
    given = parser.parse_args()
    threads = torch.get_num_threads()
    rows = (row for name in given.models for row in judge(measure(name, given.rounds, threads)))
    keep_rows("exports", rows, dry=given.dry)


if __name__ == "__main__":
    main()
