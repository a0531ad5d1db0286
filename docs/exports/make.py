"""Exports the bundled model in every format, precision and input, measures each file, and keeps it in docs/exports.

    python docs/exports/make.py --data val-000000.tar.gz    everything, some ten minutes; then README.md
    python docs/exports/make.py --data … --formats litert   these alone (on another processor without times)
    python docs/exports/make.py                             README.md from what is kept; --check only compares

DATA holds the validation images of Tiny ImageNet as shards.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from textwrap import fill
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from documents import keep_json, measured_on, parser_of, read_json, write_or_check

DOCS = Path(__file__).resolve().parent
MODEL = "convit_mini_patch8_64.tiny_imagenet"
IMAGES, BATCH, CALLS = 2000, 8, 31
ROWS: list[dict[str, Any]] = [
    {},
    {"input": "float"},
    {"dynamic_size": True},
    {"dynamic_size": True, "input": "float"},
    {"outputs": "tokens"},
    {"opset": 18},
    {"opset": 18, "dynamic_size": True},
    {"precision": "fp16"},
    {"precision": "int8"},
    *({"format": "openvino", "precision": precision} for precision in ("fp32", "bf16", "int8")),
    *({"format": "pt2", "precision": precision} for precision in ("fp32", "bf16")),
    *({"format": "aotinductor", "precision": precision} for precision in ("fp32", "bf16")),
]
APART: list[dict[str, Any]] = [  # in environments of their own
    {"format": "executorch"},
    {"format": "litert"},
    *({"format": "coreml", "precision": precision} for precision in ("fp32", "fp16")),
]


def measure(data: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Export each row, and measure accuracy and time of its file in its runtime."""
    import numpy as np

    from convit import create_model
    from convit.benchmark.running import describe_machine
    from convit.data import evenly_spaced
    from convit.evaluation.weights_used import find_weights_used
    from convit.export.images import read_images
    from convit.output.files import hash_file
    from convit.transforms import TransformSettings

    model = create_model(MODEL, pretrained=True).eval()
    images = read_images(data, model)
    places = evenly_spaced(IMAGES, images.count)
    pixels = np.concatenate(list(images.batches(places, TransformSettings.from_model(model), 100)))
    labels = np.array([images.labels[place] for place in places])
    found = [measure_one(model, images, pixels, labels, row) for row in rows]
    weights = hash_file(find_weights_used(MODEL, None))
    about = {"images": len(labels), "data": Path(data).name, "machine": describe_machine()}
    return {"rows": [{**row, "weights": weights} for row in found], **about}


def measure_one(model: Any, images: Any, pixels: Any, labels: Any, changes: dict[str, Any]) -> dict[str, Any]:
    """One row: what was asked for, what came of it, or why nothing was written."""
    import torch

    from convit.export import ExportSettings, export_model
    from convit.inference.exported import ExportedModel

    settings = ExportSettings(**changes)
    row: dict[str, Any] = {
        "format": settings.form.title,
        "opset": settings.onnx_opset,
        "precision": settings.precision,
        "input": settings.input,
        "outputs": settings.outputs or "both",
        "axes": "" if settings.form.batch else "batch, height, width" if settings.dynamic_size else "batch",
    }
    if settings.form.batch:
        row["torch"] = torch.__version__.partition("+")[0]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "exported"
        try:
            proof = export_model(model, folder, settings, images)
        except ValueError as error:
            return {**row, "refused": str(error)}
        row |= {"bytes": sum(file.stat().st_size for file in folder.glob("model.*"))}
        row |= {"largest": proof.largest, "agreement": proof.top1_agreement}
        if proof.largest is None:
            return row
        exported, right, seconds = ExportedModel(folder), 0, list[float]()
        if "logits" in exported.outputs:
            for start in range(0, len(labels), 100):
                found = exported.run(pixels[start : start + 100], ["logits"])["logits"]
                right += int((found.argmax(1) == labels[start : start + 100]).sum())
            row["top1"] = 100 * right / len(labels)
        for _ in range(CALLS):
            start = time.perf_counter()
            exported.run(pixels[:BATCH])
            seconds.append(time.perf_counter() - start)
    row["images_per_second"] = BATCH / statistics.median(seconds)
    print(row, flush=True)
    return row


def render(found: dict[str, Any]) -> str:
    """The text of README.md: no figure in it is typed in."""
    others = ", ".join(sorted({row["torch"] for row in found["apart"]}))
    weights = found["rows"][0]["weights"]
    earlier = sorted({row["format"] for row in found["apart"] if row["weights"] != weights})
    about = (
        f"Made by `docs/exports/make.py` from `matrix.json` beside it: `{MODEL}` exported by `convit export`, then run "
        "in its runtime. *Worst difference* is that of the proof at export, relative to the largest value of an "
        "output, against PyTorch in fp32 (limit 5e-6 in fp32, 2e-2 in half precision; int8 is held to its top-1). "
        f"Top-1 in percent on {found['images']:,} images of {found['data']}, Tiny ImageNet's validation images; images "
        f"per second in batches of {BATCH}."
    )
    measured = (
        f"{measured_on(found['machine'])} Other programs ran, so read the times as rough. This processor has no AMX, "
        "for which bf16 is made. No file was run on a GPU. ExecuTorch, LiteRT and Core ML were written in environments "
        f"of their own (torch {others}), and take one image at a time; Core ML runs on Apple's systems."
    )
    if any(row.get("images_per_second", 0) is None for row in found["rows"] + found["apart"]):
        measured += " Rows without a time were measured on another processor."
    if earlier:
        measured += f" Rows of {', '.join(earlier)} are of earlier weights of the same model."
    lines = "\n".join(map(_line, found["rows"] + found["apart"]))
    return f"""# What exported files give

{fill(about, 120)}

{fill(measured, 120)}

| format | precision | input | outputs | dynamic axes | size | worst difference | same first class | top-1 | images/s |
| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |
{lines}
"""


def _line(row: dict[str, Any]) -> str:
    title = f"{row['format']}, opset {row['opset']}" if row["opset"] else row["format"]
    head = f"| {title} | {row['precision']} | {row['input']} | {row['outputs']} | {row['axes']} |"
    if "refused" in row:
        return f"{head} refused: {row['refused']} | | | | |"
    size = f"{row['bytes'] / 1e6:.1f} MB"
    if row["largest"] is None:
        return f"{head} {size} | not compared | | | |"
    kept = "" if row["agreement"] is None else f"{row['agreement']:.1f} %"
    top1 = f"{row['top1']:.2f}" if "top1" in row else ""
    rate = "" if row["images_per_second"] is None else f"{row['images_per_second']:.0f}"
    return f"{head} {size} | {row['largest']:.1e} | {kept} | {top1} | {rate} |"


def replaced(found: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """An earlier run with the rows of a new one, whose times are left out where another processor took them."""
    rows = new["rows"]
    if any(new["machine"][key] != found["machine"][key] for key in ("device", "cpu_flags")):
        rows = [{**row, "images_per_second": None} if "images_per_second" in row else row for row in rows]
    parts = {"rows": [row for row in rows if "torch" not in row], "apart": [row for row in rows if "torch" in row]}
    cases = {part: {_case(row): row for row in [*found[part], *parts[part]]} for part in parts}
    return {**found, **{part: list(each.values()) for part, each in cases.items()}}


def _case(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("format", "opset", "precision", "input", "outputs", "axes"))


def main() -> int:
    """Run the tool; 1 where `--check` finds README.md out of date."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", help="validation images of Tiny ImageNet")
    parser.add_argument("--formats", nargs="+", help="measure these alone")
    parser.add_argument("--precisions", nargs="+", help="with --formats, these alone")
    parser.add_argument("--check", action="store_true", help="write nothing")
    given = parser.parse_args()
    found = read_json(DOCS / "matrix.json")
    if given.formats:
        rows = [row for row in ROWS + APART if row.get("format", "onnx") in given.formats]
        wanted = given.precisions or ("fp32", "fp16", "bf16", "int8")
        new = measure(given.data, [row for row in rows if row.get("precision", "fp32") in wanted])
        found = replaced(found, new)
    elif given.data is not None:
        found = {**measure(given.data, ROWS), "apart": found["apart"]}
    if not given.check:
        keep_json(DOCS / "matrix.json", found)
    return write_or_check(DOCS / "README.md", render(found), "python docs/exports/make.py", check=given.check)


if __name__ == "__main__":
    sys.exit(main())
