"""The paper's two inference-only experiments on any ConViT: mask the position embedding, force the gates.

A model is measured as it is and after each change, by the evaluator that `convit evaluate` uses, on the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

from convit.analysis.interventions import forced_gates, masked_position_embedding
from convit.evaluation import Evaluation, Evaluator, LabelledImages
from convit.model import ConViT

EXPERIMENTS = ("position-embedding", "gates")
PAPER_DEPTHS = (3, 5, 10)  # the k of Tab. 6; 10 is every GPSA layer of the paper's models
PAPER = "ConViT, d'Ascoli et al. 2021, arXiv 2103.10697"
UNCHANGED, MASKED, NO_CONTENT, NO_POSITION = "as trained", "no position embedding", "no content", "no position"
# the figures that each row keeps of its evaluation
KEPT = ("top1", "top5", "loss", "correct_top1", "correct_top5", "count", "unreadable")
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


@dataclass(frozen=True)
class Change:
    """One change to a trained model.

    Attributes:
        experiment: "position-embedding" or "gates"; "" for the model as it is.
        what: "as trained", "no position embedding", "no content" (gates 1) or "no position" (gates 0).
        layers: how many GPSA layers are forced, from the first on; 0 where none is.
    """

    experiment: str
    what: str
    layers: int = 0

    @property
    def paper_top1(self) -> float | None:
        """What the paper reports for its own model on ImageNet-1k, percent; None where it has no such row."""
        return PAPER_TOP1.get((self.what, self.layers))

    def applied_to(self, model: ConViT) -> AbstractContextManager[None]:
        """A `with` block in which the model is changed."""
        if self.what == MASKED:
            return masked_position_embedding(model)
        if self.layers:
            return forced_gates(model, self.layers, 1 if self.what == NO_CONTENT else 0)
        return nullcontext()


@dataclass(frozen=True)
class Measured:
    """A change and the accuracy with it.

    Attributes:
        change: the change.
        evaluation: the measurement; None for a row of the paper that this model is too shallow for.
    """

    change: Change
    evaluation: Evaluation | None


@dataclass(frozen=True)
class Ablations:
    """All measurements of one model.

    Attributes:
        gated_layers: the model's GPSA layers.
        rows: the model as it is first, then each change.
        weights: name of the weight file, "" for a model that was handed over without one.
        weights_sha256: the file's sha256, likewise.
    """

    gated_layers: int
    rows: tuple[Measured, ...]
    weights: str = ""
    weights_sha256: str = ""

    @property
    def baseline(self) -> Evaluation:
        """The model as it is."""
        first = self.rows[0].evaluation
        assert first is not None
        return first

    def to_dict(self) -> dict[str, Any]:
        """What `json.dumps` takes: the whole baseline evaluation, and the figures of each change."""
        rows: list[dict[str, Any]] = []
        for row in self.rows:
            figures: dict[str, Any] = {**asdict(row.change), "paper_top1": row.change.paper_top1}
            if row.evaluation is not None:
                low, high = wilson_interval(row.evaluation.correct_top1, row.evaluation.count)
                figures |= {key: getattr(row.evaluation, key) for key in KEPT} | {"top1_interval_95": [low, high]}
            rows.append(figures)
        about = {"source": PAPER, "measured_on": "ImageNet-1k, the paper's own model", "tables": "5 and 6"}
        return {
            "model": self.baseline.model,
            "gated_layers": self.gated_layers,
            "baseline": {
                **self.baseline.to_dict(),
                "weights": self.weights,
                "weights_sha256": self.weights_sha256,
            },
            "rows": rows,
            "paper": about,
        }


def from_dict(found: dict[str, Any]) -> Ablations:
    """Read what `Ablations.to_dict` gave.

    Raises:
        ValueError: it is something else.
    """
    try:
        whole: dict[str, Any] = {**found["baseline"], "img_size": tuple(found["baseline"]["img_size"])}
        rows: list[Measured] = []
        for row in found["rows"]:
            figures = {key: row[key] for key in KEPT} if "top1" in row else None
            change = Change(row["experiment"], row["what"], row["layers"])
            rows.append(Measured(change, None if figures is None else Evaluation(**{**whole, **figures})))
        return Ablations(found["gated_layers"], tuple(rows), whole["weights"], whole["weights_sha256"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is no result of `convit ablate` ({error}); give the JSON that it wrote") from error


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
        ValueError: it is no ConViT with GPSA layers.
    """
    if not isinstance(model, ConViT) or not model.config.local_up_to_layer:
        raise ValueError(
            f"the {type(model).__name__} has no GPSA layers to change; take a ConViT whose local_up_to_layer is at "
            "least 1, not optimised"
        )
    return min(model.config.local_up_to_layer, model.config.depth)


def run_ablations(
    evaluator: Evaluator,
    images: LabelledImages,
    experiments: Sequence[str] = EXPERIMENTS,
    advance: Callable[[], None] = lambda: None,
) -> Ablations:
    """Measure a model as it is and after each change, on the same images.

    Source: ConViT (arXiv 2103.10697), Tabs. 5 and 6.

    Args:
        evaluator: holds the model, which is left as it was.
        images: what to measure on.
        experiments: "position-embedding", "gates" or both.
        advance: called after each image of each measurement; there are `measurements` of these.

    Raises:
        ValueError: the model has no GPSA layers, or no position embedding where that is to be masked; an experiment is
            unknown; or what `Evaluator.evaluate` refuses.
    """
    gated = gated_layers_of(evaluator.model)
    model: Any = evaluator.model
    rows: list[Measured] = []
    for change in plan_changes(gated, experiments):
        if change.layers > gated:
            rows.append(Measured(change, None))
            continue
        with change.applied_to(model):
            evaluation = evaluator.evaluate(images, advance)
        rows.append(Measured(change, replace(evaluation, errors=evaluation.errors[:1])))
    return Ablations(gated, tuple(rows))


def measurements(gated_layers: int, experiments: Sequence[str] = EXPERIMENTS) -> int:
    """How many times `run_ablations` goes through the images."""
    return sum(change.layers <= gated_layers for change in plan_changes(gated_layers, experiments))


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy, in percent.

    Source: Wilson 1927, score interval.

    >>> [round(value, 1) for value in wilson_interval(50, 100)]
    [40.4, 59.6]
    """
    z = 1.959964
    share = correct / count
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def to_markdown(ablations: Ablations) -> str:
    """A table for people, the paper's own figures beside ours, and what they belong to."""
    base = ablations.baseline
    lines = [
        f"{base.model}, {base.count:,} images ({_names(base)}, sha256 {base.data_sha256[:16]}...), {base.precision}; "
        f"{base.classes} classes, {ablations.gated_layers} GPSA layers. Top-1 in percent, with its 95 % interval.",
        "",
        "| change | GPSA layers | top-1 | 95 % interval | change of top-1 | loss | paper's, on ImageNet-1k |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: |",
        *(_line(row, ablations) for row in ablations.rows),
        "",
        "No position embedding: zeros stand in for it. No content: gates 1; no position: gates 0; in the first so many "
        "GPSA layers. The last column is from the paper's Tables 5 and 6 "
        f"({PAPER}): another model on other images, whose 10 is all of its GPSA layers.",
    ]
    return "\n".join(lines) + "\n"


def _line(row: Measured, ablations: Ablations) -> str:
    change, base, paper = row.change, ablations.baseline, row.change.paper_top1
    layers = f"first {change.layers}" if change.layers else ""
    if change.layers == ablations.gated_layers:
        layers += " (all)"
    told = "" if paper is None else f"{paper:.1f}"
    if row.evaluation is None:
        return f"| {change.what} | {layers} | no such layers | | | | {told} |"
    found = row.evaluation
    low, high = wilson_interval(found.correct_top1, found.count)
    difference = "" if row is ablations.rows[0] else f"{found.top1 - base.top1:+.2f}"
    return (
        f"| {change.what} | {layers} | {found.top1:.2f} | {low:.1f} to {high:.1f} | {difference} | {found.loss:.3f} | "
        f"{told} |"
    )


def _names(evaluation: Evaluation) -> str:
    files = evaluation.data.get("files")
    return evaluation.data.get("name", "") if files is None else ", ".join(file["name"] for file in files)
