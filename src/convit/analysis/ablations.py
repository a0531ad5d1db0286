"""The paper's two inference-only experiments on any ConViT: mask the position embedding, force the gates.

A model is measured as it is and after each change, by the evaluator that `convit evaluate` uses, on the same images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from typing import Any

from convit.analysis.gating import forced_gates, masked_position_embedding
from convit.data import Samples
from convit.evaluation import Evaluation, Evaluator
from convit.evaluation.report import data_name
from convit.model import ConViT

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
class Figures:
    """What is kept of an evaluation after a change.

    Attributes:
        top1: percent.
        top5: percent.
        top1_interval: 95 %, bootstrap, percent.
        loss: mean cross entropy.
        count: images scored.
        unreadable: images that could not be read.
    """

    top1: float
    top5: float
    top1_interval: tuple[float, float]
    loss: float
    count: int
    unreadable: int

    @classmethod
    def of(cls, evaluation: Evaluation) -> Figures:
        """Take them from an evaluation."""
        found = evaluation
        return cls(found.top1, found.top5, found.intervals["top1"], found.loss, found.count, found.unreadable)


@dataclass(frozen=True)
class Measured:
    """A change and the accuracy with it.

    Attributes:
        change: the change.
        figures: the measurement; None for a row of the paper that this model is too shallow for.
    """

    change: Change
    figures: Figures | None


@dataclass(frozen=True)
class Ablations:
    """All measurements of one model.

    Attributes:
        gated_layers: the model's GPSA layers.
        rows: the model as it is first, then each change.
        about: the evaluation of the model as it is, without its classes: `Evaluation.to_dict`.
    """

    gated_layers: int
    rows: tuple[Measured, ...]
    about: dict[str, Any]

    @property
    def baseline(self) -> Figures:
        """The model as it is."""
        first = self.rows[0].figures
        assert first is not None
        return first

    def to_dict(self) -> dict[str, Any]:
        """What `json.dumps` takes: the baseline's evaluation, and the figures of each change."""
        return {
            "model": self.about["model"],
            "gated_layers": self.gated_layers,
            "baseline": self.about,
            "rows": [
                {
                    **asdict(row.change),
                    "paper_top1": row.change.paper_top1,
                    **({} if row.figures is None else asdict(row.figures)),
                }
                for row in self.rows
            ],
            "paper": {"source": PAPER, "measured_on": "ImageNet-1k, the paper's own model", "tables": "5 and 6"},
        }


def from_dict(found: dict[str, Any]) -> Ablations:
    """Read what `Ablations.to_dict` gave.

    Raises:
        ValueError: it is something else.
    """
    try:
        rows: list[Measured] = []
        for row in found["rows"]:
            figures = Figures(**{each.name: row[each.name] for each in fields(Figures)}) if "top1" in row else None
            rows.append(Measured(Change(row["experiment"], row["what"], row["layers"]), figures))
        return Ablations(found["gated_layers"], tuple(rows), found["baseline"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"this is not a result of `convit ablate` ({error}); give the JSON that it wrote") from error


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
            "least 1, not optimized"
        )
    return min(model.config.local_up_to_layer, model.config.depth)


def run_ablations(
    evaluator: Evaluator,
    images: Samples,
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
    if "position-embedding" in experiments and model.pos_embed is None:
        raise ValueError("the model has no position embedding to mask; choose the experiment 'gates' alone")
    rows: list[Measured] = []
    about: dict[str, Any] = {}
    for change in plan_changes(gated, experiments):
        if change.layers > gated:
            rows.append(Measured(change, None))
            continue
        with change.applied_to(model):
            evaluation = evaluator.evaluate(images, advance)
        rows.append(Measured(change, Figures.of(evaluation)))
        about = about or {name: value for name, value in evaluation.to_dict().items() if name not in _LEFT_OUT}
    return Ablations(gated, tuple(rows), about)


def measurements(gated_layers: int, experiments: Sequence[str] = EXPERIMENTS) -> int:
    """How many times `run_ablations` goes through the images."""
    return sum(change.layers <= gated_layers for change in plan_changes(gated_layers, experiments))


def to_markdown(ablations: Ablations) -> str:
    """A table for people, the paper's own figures beside ours, and what they belong to."""
    about = ablations.about
    data = f"{data_name(about['data'])}, sha256 {about['data_sha256'][:16]}..."
    lines = [
        f"{about['model']}, {about['count']:,} images ({data}), {about['precision']}; {about['classes']} classes, "
        f"{ablations.gated_layers} GPSA layers. Top-1 in percent, with its 95 % interval.",
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
    if row.figures is None:
        return f"| {change.what} | {layers} | no such layers | | | | {told} |"
    found = row.figures
    low, high = found.top1_interval
    difference = "" if row is ablations.rows[0] else f"{found.top1 - base.top1:+.2f}"
    return (
        f"| {change.what} | {layers} | {found.top1:.2f} | {low:.1f} to {high:.1f} | {difference} | {found.loss:.3f} | "
        f"{told} |"
    )
