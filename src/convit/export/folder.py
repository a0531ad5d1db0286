"""The exported folder: what stands in it beside the model."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from convit.export.formats import FORMATS, ExportSettings, Format
from convit.export.proof import Proof
from convit.images.names import escaped
from convit.inference.classifier import read_labels, read_temperature
from convit.model import ConViT
from convit.output.text import json_text
from convit.transforms import TransformSettings
from convit.weights.card import describe
from convit.weights.timm_config import timm_config

FILES = ("config.json", "labels.txt", "README.md", "predict.py", "model.*")
"""Patterns of what an exported folder holds."""
_COMMANDS = {
    "logits": "classify cat.jpg --model .                  # or evaluate, benchmark",
    "embedding": "embed cat.jpg --model .                     # or index, probe",
    "tokens": "embed cat.jpg --model . --kind tokens",
}
_HERE = Path(__file__).parent


def describe_export(model: ConViT, settings: ExportSettings, outputs: tuple[str, ...]) -> dict[str, Any]:
    """What `config.json` says of the file under "export": format, input, outputs and preprocessing."""
    transform = TransformSettings.from_model(model)
    takes_uint8 = settings.input == "uint8"
    return {
        "architecture": model.pretrained_cfg.get("architecture"),  # timm's name for it may be another
        "format": settings.format,
        "file": settings.form.file,
        "precision": settings.precision,
        "input": {
            "name": "images",
            "dtype": "uint8" if takes_uint8 else "float32",
            "layout": "NHWC" if takes_uint8 else "NCHW",
            "batch": settings.form.batch,
            "height": None if settings.dynamic_size else transform.height,
            "width": None if settings.dynamic_size else transform.width,
        },
        "outputs": list(outputs),
        "patch_size": model.config.patch_size,
        "transform": transform.to_dict(),
        "temperature": read_temperature(model) if model.num_classes else None,
    }


def write_config(folder: Path, model: ConViT, facts: Mapping[str, Any]) -> None:
    """Write `config.json`: timm's description of the model, and `facts` under "export"."""
    config = timm_config(describe(model))
    if model.config.image_height != model.config.image_width:  # which timm does not build, but its form can say
        config["model_args"]["img_size"] = [model.config.image_height, model.config.image_width]
    (folder / "config.json").write_text(json_text({**config, "export": facts}), encoding="utf-8")


def write_folder(folder: Path, model: ConViT, facts: Mapping[str, Any], proof: Proof) -> None:
    """Write all that stands beside the model's files, which are there."""
    write_config(folder, model, facts)
    labels = read_labels(model) if model.num_classes else ()
    (folder / "labels.txt").write_text("".join(f"{escaped(label)}\n" for label in labels), encoding="utf-8")
    (folder / "predict.py").write_bytes((_HERE / "predict.py").read_bytes())
    (folder / "README.md").write_text(_readme(folder, model, facts, proof), encoding="utf-8")


def _readme(folder: Path, model: ConViT, facts: Mapping[str, Any], proof: Proof) -> str:
    form, transform = FORMATS[facts["format"]], TransformSettings.from_model(model)
    filled = {
        **_input_facts(facts, transform),
        "name": model.pretrained_cfg.get("architecture") or "convit",
        "title": form.title + (", experimental," if form.batch else ""),
        "precision": facts["precision"],
        "version": facts["versions"]["convit"],
        "torch": facts["versions"]["torch"],
        "machine": f"{platform.machine()}, {platform.system()}",
        "file": form.file,
        "size": f"{sum((folder / name).stat().st_size for name in facts['sha256']):,}",
        "outputs": ", ".join(f"`{name}` float32 {_shape_of(name, model)}" for name in facts["outputs"]),
        "output_names": json.dumps(facts["outputs"]),
        "first": facts["outputs"][0],
        "resized": " x ".join(map(str, transform.resized_size)),
        "crop_mode": transform.crop_mode,
        "interpolation": transform.interpolation,
        "height": transform.height,
        "width": transform.width,
        "model": ", ".join(f"{key} {value}" for key, value in facts["source"].items() if value) or "not named",
        "measured": _measured(proof),
        "read": proof.read,
        "commands": _commands(form, facts["outputs"][0]),
        "hint": "bf16" if facts["precision"] == "bf16" else "f32",
    }
    runtimes = (_HERE / "runtimes" / f"{form.name}.md").read_text(encoding="utf-8")
    whole_text = (_HERE / "readme.md").read_text(encoding="utf-8").replace("$runtimes", runtimes.rstrip())
    return Template(whole_text).substitute(filled)


def _commands(form: Format, first: str) -> str:
    """The commands that run the file, as a block of code; empty if none does."""
    script = "    python predict.py cat.jpg                          # needs"
    lines = [] if form.batch else [f"{script} {form.runtime}, Pillow and numpy"]
    lines += [f"    convit {_COMMANDS[first]}"] if form.runtime else []
    return "\n".join([*lines, "", ""]) if lines else ""


def _input_facts(facts: Mapping[str, Any], transform: TransformSettings) -> dict[str, str]:
    """What a file takes, in words and in the code of three languages."""
    given, channels = facts["input"], transform.input_size[0]
    takes_uint8 = given["dtype"] == "uint8"
    sides = [given["height"] or "height", given["width"] or "width"]
    batch = given["batch"] or "batch"
    shape = f"({', '.join(map(str, [batch, *sides, channels] if takes_uint8 else [batch, channels, *sides]))})"
    kind = "pixel values" if takes_uint8 else f"normalized by mean {transform.mean} and std {transform.std}"
    whole = f", sides in multiples of {facts['patch_size']}" if given["height"] is None else ""
    mean, std = (f"np.array({list(values)}, np.float32)" for values in (transform.mean, transform.std))
    normalized = f"np.moveaxis((images / np.float32(255) - {mean}) / {std}, -1, 1).copy()"
    return {
        "input": f"{given['dtype']} {shape}{whole}, {kind}",
        "normalize": "" if takes_uint8 else f"images = {normalized}\n",
        "shape": shape,
        "sides": shape[1:-1],
        "dtype": given["dtype"],
        "cpp": "uint8_t" if takes_uint8 else "float",
        "js": "Uint8Array" if takes_uint8 else "Float32Array",
        "scalar": "Byte" if takes_uint8 else "Float",
        "ov": "u8" if takes_uint8 else "f32",
    }


def _shape_of(output: str, model: ConViT) -> str:
    dim = model.config.dim
    return {"logits": f"(batch, {model.num_classes})", "embedding": f"(batch, {dim})"}.get(
        output, f"(batch, {model.num_prefix_tokens} + patches, {dim})"
    )


def _measured(proof: Proof) -> str:
    if proof.largest is None:
        return f"**nothing: {proof.warning}**"
    limit = "" if proof.limit is None else f" (limit {proof.limit:.0e})"
    parts = [f"largest difference from PyTorch in fp32 {proof.largest:.1e} of the largest value{limit}"]
    if proof.top1_agreement is not None:
        parts.append(f"same first class on {proof.top1_agreement:.1f} % of {proof.images:,} images")
    if proof.top1 is not None:
        parts.append(f"top-1 {proof.top1[1]:.2f} %, in PyTorch {proof.top1[0]:.2f} %")
    parts.append("batches " + ", ".join(" x ".join(map(str, shape)) for shape in proof.shapes))
    return "; ".join([*parts, *([f"**weak: {proof.warning}**"] if proof.warning else [])])
