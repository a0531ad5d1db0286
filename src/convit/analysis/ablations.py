"""The paper's two inference-only experiments on any ConViT: mask the position embedding, force the gates.

A model is measured as it is and after each change, by the evaluator that `convit evaluate` uses, on the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from convit.analysis.gating import forced_gates, masked_position_embedding
from convit.data import Samples
from convit.evaluation import Evaluator
from convit.images.names import escaped
from convit.model import ConViT
from convit.output.text import data_name, markdown_line

EXPERIMENTS = ("position-embedding", "gates")
PAPER_DEPTHS = (3, 5, 10)  # the k of Tab. 6; 10 is every GPSA layer of the paper's models
PAPER = "ConViT, d'Ascoli et al. 2021, arXiv 2103.10697"
UNCHANGED, MASKED, NO_CONTENT, NO_POSITION = "as trained", "no position embedding", "no content", "no position"
# of the evaluation before any change, what the table does not need
_LEFT_OUT = ("calibration", "per_class", "confusion", "class_names")
# top-1 on ImageNet-1k in percent, Tabs. 5 and 6
PAPER_TOP1: dict[tuple[str, int], float] = {
    (UNCHANGED, 0): 73.1,
    (MASKED, 0): 67.1,
    (NO_CONTENT, 3): 62.3,
    (NO_CONTENT, 5): 35.0,
    (NO_CONTENT, 10): 1.3,
    (NO_POSITION, 3): 63.5,
    (NO_POSITION, 5): 53.1,
    (NO_POSITION, 10): 46.8,
}


class Change(NamedTuple):
    """One change to a trained model.

    Attributes:
        experiment: "position-embedding" or "gates"; "" for the model as it is.
        what: "as trained", "no position embedding", "no content" (gates 1) or "no position" (gates 0).
        layers: how many GPSA layers are forced, from the first on; 0 if none is.
    """

    experiment: str
    what: str
    layers: int = 0

    def applied_to(self, model: ConViT) -> AbstractContextManager[None]:
        """A `with` block in which the model is changed."""
        if self.what == MASKED:
            return masked_position_embedding(model)
        if self.layers:
            return forced_gates(model, self.layers, 1 if self.what == NO_CONTENT else 0)
        return nullcontext()


def plan_changes(gated_layers: int, experiments: Sequence[str] = EXPERIMENTS) -> list[Change]:
    """The changes of the experiments, and the model as it is before them.

    Gates are forced in the first 3, 5, 10 and all GPSA layers; a number that the model does not have stays in the list,
    since the paper has its row.

    Raises:
        ValueError: an experiment is unknown.
    """
    changes = [Change("", UNCHANGED)]
    for experiment in experiments:
        if experiment not in EXPERIMENTS:
            raise ValueError(f"the experiment is {experiment!r}, but must be one of {', '.join(EXPERIMENTS)}")
    if "position-embedding" in experiments:
        changes.append(Change("position-embedding", MASKED))
    if "gates" in experiments:
        depths = sorted({*PAPER_DEPTHS, gated_layers})
        changes += [Change("gates", what, layers) for what in (NO_CONTENT, NO_POSITION) for layers in depths]
    return changes


def gated_layers_of(model: object) -> int:
    """How many GPSA layers a model has that the experiments can change.

    Raises:
        ValueError: it is not a ConViT with GPSA layers.
    """
    if not isinstance(model, ConViT) or not model.config.local_up_to_layer:
        raise ValueError(
            f"the {type(model).__name__} has no GPSA layers to change; take a ConViT whose local_up_to_layer is at "
            "least 1, not optimized"
        )
    return min(model.config.local_up_to_layer, model.config.depth)


def run_ablations(
    evaluator: Evaluator,
    images: Samples,
    experiments: Sequence[str] = EXPERIMENTS,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure a model as it is and after each change, on the same images.

    Source: ConViT (arXiv 2103.10697), Tabs. 5 and 6.

    Args:
        evaluator: holds the model, which is left as it was.
        images: what to measure on.
        experiments: "position-embedding", "gates" or both.
        advance: called after each image of each measurement; there are `measurements` of these.

    Returns:
        What `json.dumps` takes: "model", "gated_layers", "baseline" (`Evaluation.to_dict` of the model as it is,
        without its classes), "rows" and "paper". The first row is the model as it is; each has the attributes of its
        `Change`, the paper's top-1 (None if it has none) and the metrics, which are absent where the paper has a
        row that the model is too shallow for.

    Raises:
        ValueError: the model has no GPSA layers, or no position embedding where that is to be masked; an experiment is
            unknown; or what `Evaluator.evaluate` refuses.
    """
    gated = gated_layers_of(evaluator.model)
    model: Any = evaluator.model
    if "position-embedding" in experiments and model.pos_embed is None:
        raise ValueError("the model has no position embedding to mask; choose the experiment 'gates' alone")
    rows: list[dict[str, Any]] = []
    baseline: dict[str, Any] = {}
    for change in plan_changes(gated, experiments):
        row = {**change._asdict(), "paper_top1": PAPER_TOP1.get((change.what, change.layers))}
        rows.append(row)
        if change.layers > gated:
            continue
        with change.applied_to(model):
            found = evaluator.evaluate(images, advance)
        row |= {"top1": found.top1, "top5": found.top5, "top1_interval": found.intervals["top1"]}
        row |= {"loss": found.loss, "count": found.count, "unreadable": found.unreadable}
        baseline = baseline or {name: value for name, value in found.to_dict().items() if name not in _LEFT_OUT}
    paper = {"source": PAPER, "measured_on": "ImageNet-1k, the paper's own model", "tables": "5 and 6"}
    return {"model": baseline["model"], "gated_layers": gated, "baseline": baseline, "rows": rows, "paper": paper}


def measurements(gated_layers: int, experiments: Sequence[str] = EXPERIMENTS) -> int:
    """How many times `run_ablations` goes through the images."""
    return sum(change.layers <= gated_layers for change in plan_changes(gated_layers, experiments))


def to_markdown(found: Mapping[str, Any]) -> str:
    """What `run_ablations` found as a table for people, the paper's own figures beside ours."""
    about = found["baseline"]
    model, data = escaped(about["model"]), f"{escaped(data_name(about['data']))}, sha256 {about['data_sha256'][:16]}..."
    lines = [
        f"{model}, {about['count']:,} images ({data}), {about['precision']}; {about['classes']} classes, "
        f"{found['gated_layers']} GPSA layers. Top-1 in percent, with its 95 % interval.",
        "",
        "| change | GPSA layers | top-1 | 95 % interval | change of top-1 | loss | paper's, on ImageNet-1k |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: |",
        *(_line(row, found["gated_layers"], about["top1"]) for row in found["rows"]),
        "",
        "No position embedding: zeros stand in for it. No content: gates 1; no position: gates 0; in the first so many "
        "GPSA layers. The last column is from the paper's Tables 5 and 6 "
        f"({PAPER}): another model on other images, whose 10 is all of its GPSA layers.",
    ]
    return "\n".join(lines) + "\n"


def _line(row: Mapping[str, Any], gated_layers: int, before: float) -> str:
    layers = f"first {row['layers']}" if row["layers"] else ""
    if row["layers"] == gated_layers:
        layers += " (all)"
    cells = [row["what"], layers]
    if "top1" in row:
        low, high = row["top1_interval"]
        difference = f"{row['top1'] - before:+.2f}" if row["experiment"] else ""
        cells += [f"{row['top1']:.2f}", f"{low:.1f} to {high:.1f}", difference, f"{row['loss']:.3f}"]
    else:
        cells += ["no such layers", "", "", ""]
    cells.append("" if row["paper_top1"] is None else f"{row['paper_top1']:.1f}")
    return markdown_line(cells)
