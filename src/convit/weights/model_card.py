"""The model card of a weight file, for the hub and for the weights in the package: no figure in it is typed in.

It is made from the file, which describes itself, and from what was measured of it; see `Sources`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from convit.model.config import ConViTConfig
from convit.output.text import data_name, first_few, markdown_line
from convit.weights.header import read_header, read_metadata
from convit.weights.labels import numbered_classes
from convit.weights.timm_config import why_not_timm
from convit.weights.weight_sets import WEIGHT_SETS, WeightSet

TEMPLATE = Path(__file__).with_name("model_card.md")
_MOST_CLASSES = 100  # named in a card
_PRECISIONS = {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}
# the hub's identifiers; other terms are free text
LICENSES = (
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "agpl-3.0", "unlicense", "cc0-1.0", "cc-by-4.0",
    "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
)  # fmt: skip


@dataclass(frozen=True)
class Sources:
    """What a card is made from besides the weight file.

    Attributes:
        evaluations: what `convit evaluate` measured of these very weights.
        log: lines of the training's log, an epoch each.
        recipe: YAML text of the training's recipe.
        environment: YAML text that names machine, packages and data.
        use: how the weights are loaded, in Markdown.
        terms: license of the weights, one of `LICENSES`; "" where whoever writes the card chose none.
        notes: text by place ("intro", "measured_note", "data_note", "training_note", "limits"); `$num_classes` and
            other facts in it are filled in.
    """

    evaluations: Sequence[Mapping[str, Any]] = ()
    log: Sequence[Mapping[str, Any]] = ()
    recipe: str = ""
    environment: str = ""
    use: str = ""
    terms: str = ""
    notes: Mapping[str, str] = field(default_factory=dict[str, str])


def render_card(title: str, file: Path, sources: Sources) -> str:
    """Return the text of a model card, in Markdown; `file` is one that `convit.save_weights` wrote."""
    described = read_metadata(file)
    facts = {"title": title, **_file_facts(file), **_model_facts(described)}
    if sources.evaluations:
        facts["count"] = f"{sources.evaluations[0]['count']:,}"
    facts["calibration"] = _calibration(described.get("calibration"))
    notes = {place: Template(text).substitute(facts) for place, text in sources.notes.items()}
    facts |= {
        "intro": notes.get("intro") or _sentence(f"A ConViT, {described.get('origin') or 'saved with convit'}"),
        "accuracy": _paragraphs(_accuracy(described, sources.evaluations), notes.get("measured_note")),
        "use": sources.use,
        "terms": _paragraphs(_terms(described, sources.terms), notes.get("data_note")),
        "training": _training(described, sources, notes.get("training_note")),
        "limits": notes.get("limits") or _limits(facts),
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(facts)


def front_matter(name: str, file: Path, evaluations: Sequence[Mapping[str, Any]], terms: str = "") -> str:
    """The block of YAML above a card, from which the hub reads task, library, terms, base model and accuracies."""
    from huggingface_hub import EvalResult, ModelCardData

    described, header = read_metadata(file), read_header(file)
    config = ConViTConfig.from_dict(described["config"])
    by_timm = why_not_timm(config, header) is None
    license_id = str(terms or described.get("license") or "").lower()
    base, task = base_weights(described), "image-classification" if config.num_classes else "image-feature-extraction"
    results = [
        EvalResult(
            *(task, "imagefolder", _measured_on(each), "accuracy", round(each["top1"] / 100, 6)),
            dataset_revision=each["data_sha256"],
        )
        for each in evaluations
    ]
    card = ModelCardData(
        library_name="timm" if by_timm else "convit",
        pipeline_tag=task,
        tags=[task, "convit", *(("timm", "transformers") if by_timm else ())],
        license=(license_id if license_id in LICENSES else "other") if license_id else None,
        base_model=None if base is None else base.hub_repo,
        model_name=name,
        eval_results=results or None,
    )
    return f"---\n{card.to_yaml().strip()}\n---\n\n"


def base_weights(described: Mapping[str, Any]) -> WeightSet | None:
    """The published weights that a model was fine-tuned from, or None."""
    start = described.get("recipe", {}).get("model", {}).get("weights")
    return WEIGHT_SETS.get(str(start))


def _file_facts(file: Path) -> dict[str, str]:
    tensors = {name: entry for name, entry in read_header(file).items() if name != "__metadata__"}
    kinds = {str(_PRECISIONS.get(entry["dtype"], entry["dtype"])) for entry in tensors.values()}
    return {
        "megabytes": f"{file.stat().st_size / 1e6:.2f}",
        "stored_as": ", ".join(sorted(kinds)),
        "parameters": f"{sum(math.prod(entry['shape']) for entry in tensors.values()):,}",
    }


def _model_facts(described: Mapping[str, Any]) -> dict[str, str]:
    config = ConViTConfig.from_dict(described["config"])
    names = described.get("classes") or numbered_classes(config.num_classes)
    return {
        "classes": first_few(names, _MOST_CLASSES) or "none; it gives embeddings",
        "num_classes": str(config.num_classes),
        "height": str(config.image_height),
        "width": str(config.image_width),
        "patch_size": str(config.patch_size),
        "depth": str(config.depth),
        "local_layers": str(config.local_up_to_layer),
        "heads": str(config.num_heads),
        "dim": str(config.dim),
        "mean": ", ".join(map(str, described["mean"])),
        "std": ", ".join(map(str, described["std"])),
        **{key: str(described[key]) for key in ("interpolation", "crop_pct", "crop_mode")},
    }


def _measured_on(measured: Mapping[str, Any]) -> str:
    name = data_name(measured["data"])
    return f"{name} ({measured['part']})" if measured.get("part") else name


def _accuracy(described: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]]) -> str:
    if not evaluations:
        outcome = described.get("outcome") or {}
        if outcome.get("val_top1") is None:
            return "Not measured."
        return (
            f"Top-1 {outcome['val_top1']:.2f} % on the validation images of the training, after epoch "
            f"{outcome['epoch']}. Not measured otherwise."
        )
    rows = [
        markdown_line(
            (
                *(_measured_on(each), f"{each['count']:,}"),
                *(f"{each['top1']:.2f} %", f"{each['top5']:.2f} %", f"{each['loss']:.4f}"),
            )
        )
        for each in evaluations
    ]
    said = [
        f"Measured{f' on {_measured_on(each)}' if len(evaluations) > 1 else ''} with `convit evaluate` in "
        f"{each['precision']}, one center crop ({each['correct_top1']:,} of {each['count']:,} right), on "
        f"{each['date'][:10]} with {', '.join(f'{name} {number}' for name, number in each['versions'].items())}; "
        f"sha256 of the data: `{each['data_sha256']}`."
        for each in evaluations
    ]
    head = ["| measured on | images | top-1 | top-5 | loss |", "| --- | ---: | ---: | ---: | ---: |"]
    return "\n".join([*head, *rows, "", *said, f"sha256 of the weights: `{evaluations[0]['weights_sha256']}`."])


def _terms(described: Mapping[str, Any], chosen: str) -> str:
    data, terms, base = described.get("trained_on"), described.get("license"), base_weights(described)
    lines = [
        _sentence(data) if data else "The training images are not named.",
        _sentence(terms) if terms else "Their terms are not stated (the recipe's `data.terms`).",
    ]
    if chosen:
        lines.append(f"The weights are licensed as `{chosen}`.")
    if base is not None:
        lines.append(f"Fine-tuned from `{base.name}` ({base.license}), which was trained on {base.trained_on}.")
    return " ".join(lines)


def _training(described: Mapping[str, Any], sources: Sources, note: str | None) -> str:
    recipe: Mapping[str, Any] = described.get("recipe") or {}
    if not recipe or not sources.log:
        return _paragraphs(_sentence(described.get("origin") or "Not stated"), note)
    log, last = sources.log, sources.log[-1]
    hours = sum(line.get("seconds") or 0.0 for line in log) / 3600
    rates = sorted(line["images_per_second"] for line in log if line.get("images_per_second"))
    pace = f" at about {rates[len(rates) // 2]:.0f} images/s" if rates else ""
    averaged = f", their exponential moving average (decay {recipe['ema']['decay']})" if recipe.get("ema") else ""
    chosen = "the last epoch"
    below = "the recipe below" if sources.recipe else f"recipe {recipe.get('name')}"
    if recipe.get("run", {}).get("select") == "best":
        chosen = f"epoch {described.get('outcome', {}).get('epoch')}, the best on the validation images"
    text = (
        f"`convit train` with {below}: {last['epoch']} epochs in {hours:.2f} hours{pace} "
        f"(seed {recipe.get('seed', 0)}).\n"
        f"The weights are those of {chosen}{averaged}."
    )
    if last.get("val_top1") is not None:
        held_out = recipe.get("data", {}).get("held_out")
        watched = f"{held_out:,} training images were\nheld out to watch" if held_out else "Validation images watched"
        text += f" {watched} the run: top-1 on them {last['val_top1']:.2f} % at the end."
    blocks = [f"```yaml\n{text.strip()}\n```" for text in (sources.recipe,) if text]
    if sources.environment:
        blocks += [
            "Machine, packages and the sha256 of the training files:",
            f"```yaml\n{sources.environment.strip()}\n```",
        ]
    return "\n\n".join([text + (f"\n{note}" if note else ""), *blocks])


def _calibration(found: Mapping[str, Any] | None) -> str:
    if not found:
        return "Scores are not calibrated."
    return (
        f"`Classifier` and the commands divide logits by a temperature of {found['temperature']:.3f}, fitted on "
        f"{found['images']:,} images that were neither trained nor tested on (expected calibration error there "
        f"{found['ece_before']:.1f} % before, {found['ece_after']:.1f} % after); `model(images)` does not."
    )


def _limits(facts: Mapping[str, str]) -> str:
    knows = (
        f"- It knows {facts['num_classes']} classes and nothing else. Every image gets one of these labels,",
        "  whatever it shows; a high score does not mean that the object is there.",
    )
    rest = (
        f"- It sees {facts['height']} x {facts['width']} pixels. Photographs are shrunk to that; small objects vanish.",
        f"- {facts['calibration']}",
        "- Robustness against noise, other cameras or other regions of the world was not measured.",
        "- It must not be used for decisions about people, or where an error does harm.",
    )
    return "\n".join([*(() if facts["num_classes"] == "0" else knows), *rest])


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _paragraphs(text: str, note: str | None) -> str:
    return f"{text}\n{note}" if note else text
