"""The targets of speed and memory, as cases to measure and numbers to reach; `targets.py` runs them.

Each `Measurement` is a few cases of `convit.benchmark` and what must hold of their rows. "ours" is `convit.optimize`,
in training the model itself. Of several batch sizes, everybody's best counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from convit.benchmark import Case, Row
from convit.benchmark.candidates import deit_of

Rows = Sequence[Row]
PARTS = ("infer", "compiled", "eight-bit", "train", "memory", "scaling")
MODELS = ("convit_base", "convit_small", "convit_tiny")
SCALING_SIDES = (224, 448, 640, 1024, 2048)  # 196, 784, 1600, 4096 and 16,384 patches
BEST_BATCHES = (64, 256)  # on a GPU, whose every compilation takes half a minute
OURS = ("ours", "ours+compile", "triton+compile")  # the best of them counts


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
    device: str,
    models: Sequence[str] = MODELS,
    rounds: int | None = None,
    threads: int | None = 2,
    *,
    amx: bool = False,
) -> list[Measurement]:
    """Every measurement that has targets on a device.

    Args:
        device: "cpu", or "cuda", "cuda:1" ….
        models: of `MODELS`.
        rounds: timed calls of each; None for each mode's own number.
        threads: of the CPU.
        amx: whether that has matrix units for bf16 and int8, which have targets of their own.
    """
    if device.startswith("cuda"):
        shared: dict[str, Any] = {"device": device, "rounds": rounds}
        found = _gpu_inference(models, shared) + _gpu_training(models, shared)
    else:
        shared = {"device": device, "rounds": rounds, "threads": threads}
        found = [*_cpu_inference(models, shared, amx=amx), *_cpu_eight_bit(models, shared)]
        found += _cpu_training(models, shared, amx=amx)
    return [*found, *_memory(models, shared), *_scaling(device, models, shared)]


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


def _cpu_inference(models: Sequence[str], shared: dict[str, Any], *, amx: bool) -> list[Measurement]:
    found: list[Measurement] = []
    forms = (("infer", ""), ("compiled", "+compile"))
    for model, (part, suffix), precision, batch in product(models, forms, ("fp32", "bf16"), (1, 8)):
        timm, deit = f"timm:{model}{suffix}", deit_of(model) + suffix
        per = faster if model == "convit_base" else faster_per_operation
        over_timm, over_deit, share = _goals(model, precision, batch, amx=amx)
        targets, against = [faster(timm, over_timm), per(deit, over_deit)], [timm, deit]
        if part == "infer" and batch == 8:
            targets.append(share_of_peak(share))
            if precision == "bf16":
                against.append(f"{timm}@fp32")
                targets.append(faster(f"{timm}@fp32", 5.0))
        case = Case(model, tuple(against), precision=precision, batch=batch, compiled=bool(suffix), **shared)
        found.append(Measurement(part, f"{model}, {precision}, batch {batch}", (case,), tuple(targets)))
    return found


def _goals(model: str, precision: str, batch: int, *, amx: bool) -> tuple[float, float, float]:
    """Images/s over timm and over DeiT, and the share of the peak in percent, at least."""
    if precision == "fp32":
        return 1.5, 1.0, 75.0
    if not amx:
        return 2.0, 1.05, 65.0
    if model != "convit_base":
        return 2.0, 1.0, 30.0
    return 2.0, (1.3 if batch == 1 else 1.05), 52.0


def _cpu_eight_bit(models: Sequence[str], shared: dict[str, Any]) -> list[Measurement]:
    found: list[Measurement] = []
    for model in models:
        timm = f"timm:{model}@fp32"
        case = Case(model, (timm, "ours@fp32"), precision="int8", batch=8, **shared)
        found.append(Measurement("eight-bit", f"{model}, int8, batch 8", (case,), (faster(timm, 9.0),)))
    return found


def _cpu_training(models: Sequence[str], shared: dict[str, Any], *, amx: bool) -> list[Measurement]:
    found: list[Measurement] = []
    for model, precision in product(models, ("fp32", "bf16")):
        against, targets = [f"timm:{model}"], [faster(f"timm:{model}", 2.0 if amx and precision == "bf16" else 1.4)]
        if precision == "bf16":
            against.append("eager@fp32")
            targets.append(Target("images/s over ours in fp32", 2.0 if amx else 1.0, _over_fp32, against="eager@fp32"))
        case = Case(model, tuple(against), mode="train", precision=precision, batch=8, **shared)
        name = f"{model}, training step, {precision}, batch 8"
        found.append(Measurement("train", name, (case,), tuple(targets)))
    return found


def _gpu_inference(models: Sequence[str], shared: dict[str, Any]) -> list[Measurement]:
    found: list[Measurement] = []
    for model in models:
        amp, timm = f"timm:{model}+amp", f"timm:{model}+compile"
        deit = f"{deit_of(model)}+compile"
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


def best(rows: Rows, candidate: str) -> Row | None:
    """A candidate's row of the most images per second; for "ours" the best of its forms."""
    names = OURS if candidate == "ours" else (candidate,)
    return max((row for row in rows if row.candidate in names), key=lambda row: row.images_per_second, default=None)


def _ratio(rows: Rows, than: str, work: Callable[[Row], float]) -> float | None:
    ours, theirs = best(rows, "ours"), best(rows, than)
    if ours is None or theirs is None or not work(theirs):
        return None
    return ours.images_per_second * work(ours) / (theirs.images_per_second * work(theirs))


def _over_fp32(rows: Rows) -> float | None:
    """In training; None where ours is computed in fp32 whatever was asked for."""
    ours = best(rows, "ours")
    return None if ours is None or ours.computed_in == "fp32" else _ratio(rows, "eager@fp32", lambda _: 1.0)


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
