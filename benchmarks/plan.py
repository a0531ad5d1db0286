"""The targets of speed and memory, as cases to measure and numbers to reach; `targets.py` runs them.

Each `Measurement` is a few cases of `convit.benchmark` and what must hold of their rows. "ours" is `convit.optimize`,
in training the model itself. Of several batch sizes, everybody's best counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from convit.benchmark import Case, Row

Rows = Sequence[Row]
PARTS = ("infer", "compiled", "eight-bit", "train", "memory", "scaling", "pipeline")
MODELS = ("convit_base", "convit_small", "convit_tiny")
SCALING_SIDES = (224, 448, 640, 1024, 2048)  # 196, 784, 1600, 4096 and 16,384 patches
BEST_BATCHES = (64, 256)  # on a GPU, whose every compilation takes half a minute
OURS = ("ours", "ours+compile", "triton+compile")  # the best of them counts
_DEIT = {"convit_base": "base", "convit_small": "small", "convit_tiny": "tiny"}


@dataclass(frozen=True)
class Target:
    """A number to reach.

    Attributes:
        what: in words, as the table shows it.
        bound: the number.
        value: finds what was reached in the rows of a measurement; None where a row is missing.
        at_most: whether less is better.
        against: the candidate whose time is shown beside ours, if one.
        unit: "x" for ratios, "%" for shares, else as it is written behind the number.
    """

    what: str
    bound: float
    value: Callable[[Rows], float | None]
    at_most: bool = False
    against: str | None = None
    unit: str = "x"

    def is_met(self, found: float) -> bool:
        """Whether a number reaches it."""
        return found <= self.bound if self.at_most else found >= self.bound


@dataclass(frozen=True)
class Measurement:
    """Cases that belong together, and what must hold of them.

    Attributes:
        part: one of `PARTS`.
        name: which of the part, as the table shows it.
        cases: measured one after the other.
        targets: of all their rows together.
    """

    part: str
    name: str
    cases: tuple[Case, ...]
    targets: tuple[Target, ...]


def plan(
    device: str, models: Sequence[str] = MODELS, rounds: int | None = None, threads: int | None = 2
) -> list[Measurement]:
    """Every measurement that has targets on a device.

    Args:
        device: "cpu", or "cuda", "cuda:1" ….
        models: of `MODELS`.
        rounds: timed calls of each; None for each mode's own number.
        threads: of the CPU.
    """
    if device.startswith("cuda"):
        shared: dict[str, Any] = {"device": device, "rounds": rounds}
        found = _gpu_inference(models, shared) + _gpu_training(models, shared)
    else:
        shared = {"device": device, "rounds": rounds, "threads": threads}
        found = [*_cpu_inference(models, shared), *_cpu_eight_bit(models, shared), *_cpu_training(models, shared)]
    return [*found, *_memory(models, shared), *_scaling(device, models, shared), *_pipeline(models, shared)]


def faster(than: str, at_least: float) -> Target:
    """Our images per second over another candidate's."""
    return Target(f"images/s over {than}", at_least, lambda rows: _ratio(rows, than, lambda _: 1.0), against=than)


def faster_per_operation(than: str, at_least: float) -> Target:
    """The same per executed operation, for models of different size."""
    return Target(
        f"executed GMACs/s over {than}",
        at_least,
        lambda rows: _ratio(rows, than, lambda row: row.cost.executed or 0),
        against=than,
    )


def share_of_peak(at_least: float) -> Target:
    """Share of the device's measured matrix-product peak in percent, of our best row."""
    return Target("share of the measured peak", at_least, _share, unit="%")


def less_memory(than: str, at_most: float, what: str = "memory over the loaded model") -> Target:
    """Our memory over another candidate's, in the largest images that both have."""
    return Target(f"{what}, over {than}", at_most, lambda rows: _memory_ratio(rows, than), at_most=True, against=than)


def _cpu_inference(models: Sequence[str], shared: dict[str, Any]) -> list[Measurement]:
    found: list[Measurement] = []
    for model in models:
        for part, suffix in (("infer", ""), ("compiled", "+compile")):
            for precision, least, least_deit in (("fp32", 1.5, 1.0), ("bf16", 2.0, 1.05)):
                for batch in (1, 8):
                    timm, deit = f"timm:{model}{suffix}", f"timm:deit_{_DEIT[model]}_patch16_224{suffix}"
                    per = faster if model == "convit_base" else faster_per_operation
                    targets = [faster(timm, least), per(deit, least_deit)]
                    against = [timm, deit]
                    if part == "infer" and batch == 8:
                        targets.append(share_of_peak(75 if precision == "fp32" else 65))
                        if precision == "bf16":
                            against.append(f"{timm}@fp32")
                            targets.append(faster(f"{timm}@fp32", 5.0))
                    case = Case(
                        model, tuple(against), precision=precision, batch=batch, compiled=bool(suffix), **shared
                    )
                    found.append(Measurement(part, f"{model}, {precision}, batch {batch}", (case,), tuple(targets)))
    return found


def _cpu_eight_bit(models: Sequence[str], shared: dict[str, Any]) -> list[Measurement]:
    found: list[Measurement] = []
    for model in models:
        timm = f"timm:{model}@fp32"
        case = Case(model, (timm, "ours@fp32"), precision="int8", batch=8, **shared)
        found.append(Measurement("eight-bit", f"{model}, int8, batch 8", (case,), (faster(timm, 9.0),)))
    return found


def _cpu_training(models: Sequence[str], shared: dict[str, Any]) -> list[Measurement]:
    return [
        Measurement(
            "train",
            f"{model}, training step, {precision}, batch 8",
            (
                Case(
                    model,
                    (f"timm:{model}",),
                    mode="train",
                    precision=precision,
                    batch=8,
                    **shared,
                ),
            ),
            (faster(f"timm:{model}", 1.4),),
        )
        for model in models
        for precision in ("fp32", "bf16")
    ]


def _gpu_inference(models: Sequence[str], shared: dict[str, Any]) -> list[Measurement]:
    found: list[Measurement] = []
    for model in models:
        amp, timm = f"timm:{model}+amp", f"timm:{model}+compile"
        deit = f"timm:deit_{_DEIT[model]}_patch16_224+compile"
        per = faster if model == "convit_base" else faster_per_operation
        cases = tuple(
            Case(model, (amp, timm, deit, "ours+compile"), precision="bf16", batch=batch, **shared)
            for batch in BEST_BATCHES
        )
        targets = (faster(amp, 4.0), faster(timm, 1.8), per(deit, 1.05), share_of_peak(60))
        found.append(Measurement("infer", f"{model}, bf16, best batch", cases, targets))
        for precision in ("fp8", "int8"):
            cases = tuple(
                Case(model, ("ours@bf16",), precision=precision, batch=batch, compiled=True, **shared)
                for batch in BEST_BATCHES
            )
            found.append(
                Measurement("eight-bit", f"{model}, {precision}, best batch", cases, (faster("ours@bf16", 1.3),))
            )
    return found


def _gpu_training(models: Sequence[str], shared: dict[str, Any]) -> list[Measurement]:
    found: list[Measurement] = []
    for model in models:
        timm = f"timm:{model}+compile"
        against = (timm, "triton+compile")
        case = Case(model, against, mode="train", precision="bf16", batch=64, compiled=True, **shared)
        targets = (faster(timm, 1.8), less_memory(timm, 0.6, "memory of a step"))
        found.append(Measurement("train", f"{model}, training step, bf16, batch 64", (case,), targets))
    return found


def _memory(models: Sequence[str], shared: dict[str, Any]) -> list[Measurement]:
    return [
        Measurement(
            "memory",
            f"{model}, 1024 x 1024, batch 1",
            (Case(model, (f"timm:{model}",), mode="memory", size=(1024, 1024), **shared),),
            (
                less_memory(f"timm:{model}", 0.05),
                *(
                    [Target("memory over the loaded model", 250.0, _our_memory, at_most=True, unit="MB")]
                    * (model == "convit_tiny")
                ),
            ),
        )
        for model in models
    ]


def _scaling(device: str, models: Sequence[str], shared: dict[str, Any]) -> list[Measurement]:
    # a pass of the base model at 16,384 patches takes minutes on a CPU of two cores
    model = models[0] if device.startswith("cuda") else models[-1]
    cases = tuple(Case(model, mode="memory", size=(side, side), **shared) for side in SCALING_SIDES)
    targets = (
        Target("position operations over N (height + width), largest image over smallest", 1.0, _growth, at_most=True),
        # anything of patches x patches would make this 4
        Target("memory per patch, 16,384 patches over 4,096", 1.2, _memory_growth, at_most=True),
    )
    return [Measurement("scaling", f"{model}, 196 to 16,384 patches, batch 1", cases, targets)]


def _pipeline(models: Sequence[str], shared: dict[str, Any]) -> list[Measurement]:
    return [
        Measurement(
            "pipeline",
            f"{model}, from JPEG files",
            (Case(model, **{**shared, "rounds": shared["rounds"] or 5}),),
            (Target("time spent waiting for data", 10.0, _waiting, at_most=True, unit="%"),),
        )
        for model in models
    ]


def best(rows: Rows, candidate: str) -> Row | None:
    """A candidate's row of the most images per second; for "ours" the best of its forms."""
    names = OURS if candidate == "ours" else (candidate,)
    return max((row for row in rows if row.candidate in names), key=lambda row: row.images_per_second, default=None)


def _ratio(rows: Rows, than: str, work: Callable[[Row], float]) -> float | None:
    ours, theirs = best(rows, "ours"), best(rows, than)
    if ours is None or theirs is None or not work(theirs):
        return None
    return ours.images_per_second * work(ours) / (theirs.images_per_second * work(theirs))


def _share(rows: Rows) -> float | None:
    ours = best(rows, "ours")
    return None if ours is None or ours.peak_share is None else 100 * ours.peak_share


def _memory_ratio(rows: Rows, than: str) -> float | None:
    ours, theirs = best(rows, "ours"), best(rows, than)
    if ours is None or theirs is None or ours.memory_mb is None or not theirs.memory_mb:
        return None
    return ours.memory_mb / theirs.memory_mb


def _our_memory(rows: Rows) -> float | None:
    ours = best(rows, "ours")
    return None if ours is None else ours.memory_mb


def _waiting(rows: Rows) -> float | None:
    ours = best(rows, "ours")
    share = getattr(ours, "waiting_share", None)  # of a `PipelineRow`
    return None if share is None else 100 * share


def _growth(rows: Rows) -> float | None:
    """How much faster than tokens x (height + width) the position half's operations grow: 1 for not at all."""
    costs = [(row.cost.position, row.cost.tokens, row.height + row.width) for row in rows]
    known = [position / (tokens * sides) for position, tokens, sides in costs if position and tokens]
    return round(known[-1] / known[0], 6) if len(known) > 1 else None


def _memory_growth(rows: Rows) -> float | None:
    known = [(row.cost.tokens, row.memory_mb) for row in rows if row.cost.tokens and row.memory_mb]
    if len(known) < 2:
        return None
    (few, low), (many, high) = known[-2:]
    return (high / many) / (low / few)
