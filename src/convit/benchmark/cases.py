"""What is to be measured: everything that one comparison fixes, and the precisions that there are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from convit.benchmark.candidates import Candidate, default_candidates, our_candidate, parse_candidate
from convit.inference.models import check_model, find_exported
from convit.model import VARIANTS
from convit.optimization.plan import choose_precision
from convit.optimization.precision import CASTS, pick_device

EIGHT_BITS = ("fp8", "int8")

# Largest difference between a model's logits and the fp32 model's, over the largest logit. fp32 to fp16: rounding over
# twelve blocks, with room. Eight bits round each value by up to 6 % (fp8 has three bits of fraction) or 1/254 of its
# row's largest (int8), and twelve blocks add that up to some 10 %; a wrong model's logits have nothing to do with the
# right ones and lie more than 100 % apart.
ALLOWED = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.02, "fp8": 0.35, "int8": 0.35}
ALLOWED_LOSS = {"fp32": 1e-4, "bf16": 0.05}  # relative difference of the first training losses, by precision


def peer_precision(precision: str, device: torch.device) -> str:
    """What a model that is only cast runs in: for 8 bits and "auto" fp32 on a CPU and bf16 on a GPU."""
    return precision if precision in CASTS else "bf16" if device.type == "cuda" else "fp32"


Mode = Literal["infer", "train", "latency", "memory"]
MODES: tuple[Mode, ...] = get_args(Mode)
ROUNDS: dict[str, int] = {"infer": 15, "train": 5, "latency": 50, "memory": 5}


@dataclass(frozen=True)
class Case:
    """One model of ours, at one size, precision and batch size, against others.

    Attributes:
        model: a variant ("convit_base": weights are drawn), a weight set ("convit_base.fb_in1k") or an exported folder.
        against: the others as they are written, see `parse_candidate`.
        mode: what is measured: "infer" images per second, "train" steps, "latency" percentiles, "memory" peak and time.
        device: "auto", "cpu", "cuda", "cuda:1" ….
        precision: one of `PRECISIONS`; for training "fp32" or "bf16".
        size: (height, width) in pixels, or None for the model's own.
        batch: images per batch, or None: 8 on a CPU and 64 on a GPU, 1 for latency and memory.
        compiled: whether ours goes through `torch.compile`.
        rounds: timed calls of each (for "memory", processes), or None for the mode's own number.
        threads: of the CPU, or None for PyTorch's own choice.
        weights: weight file, or None.
    """

    model: str
    against: tuple[str, ...] = ()
    mode: Mode = "infer"
    device: str = "auto"
    precision: str = "fp32"
    size: tuple[int, int] | None = None
    batch: int | None = None
    compiled: bool = False
    rounds: int | None = None
    threads: int | None = None
    weights: str | None = None

    def check(self) -> None:
        """Refuse what cannot be measured, before anything is loaded.

        Raises:
            ValueError: a mode, model, candidate, precision or device that is not there, or a number out of range.
            FileNotFoundError: there is no such weights file.
            ModuleNotFoundError: the precision needs a package that is not installed.
        """
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}, but must be one of {', '.join(MODES)}")
        check_model(self.model, None)
        if self.exported is not None:
            self._check_exported()
        if self.mode != "train":
            choose_precision(self.precision, self.torch_device, calibrated=True)
        elif self.precision not in ALLOWED_LOSS:
            known = ", ".join(ALLOWED_LOSS)
            raise ValueError(f"precision is {self.precision!r}, but a training step can be measured in {known}")
        for name, value in (("batch", self.batch), ("rounds", self.rounds), ("threads", self.threads)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, but must be at least 1")
        variant = VARIANTS.get(self.model.partition(".")[0])
        if self.size is not None and variant is not None:
            variant.config.replace(img_size=self.size)
        if self.weights is not None and not Path(self.weights).exists():
            raise FileNotFoundError(f"weights is {self.weights}, but no such file or folder exists")
        self.candidates()

    def _check_exported(self) -> None:
        for name, value, allowed in (
            ("mode", self.mode, ("infer", "latency")),
            ("device", self.device, ("auto", "cpu")),
            ("compiled", self.compiled, (False,)),
        ):
            if value not in allowed:
                raise ValueError(
                    f"{name} is {value}, but an exported model ({self.model}) is measured with "
                    f"{' or '.join(map(str, allowed))}"
                )

    @property
    def exported(self) -> Path | None:
        """The exported folder that `model` names; None if it names another model."""
        return find_exported(self.model)

    @property
    def torch_device(self) -> torch.device:
        """Where it runs."""
        return pick_device(self.device if self.exported is None else "cpu")

    @property
    def batch_size(self) -> int:
        """Images at a time, as asked for or as the mode has it."""
        if self.batch is not None:
            return self.batch
        if self.mode in ("latency", "memory"):
            return 1
        return 8 if self.torch_device.type == "cpu" else 64

    @property
    def round_count(self) -> int:
        """Timed calls of each."""
        return self.rounds or ROUNDS[self.mode]

    def candidates(self) -> list[Candidate]:
        """All candidates, each once and ours first; raises the errors of `parse_candidate`."""
        ours = our_candidate(self.model, compiled=self.compiled)
        others = [parse_candidate(text, self.model) for text in self.against]
        return list({candidate.name: candidate for candidate in (ours, *others)}.values())


def make_cases(
    models: Sequence[str],
    against: Sequence[str] | None,
    precisions: Sequence[str],
    sizes: Sequence[tuple[int, int] | None],
    batches: Sequence[int | None],
    **shared: Any,
) -> list[Case]:
    """Every combination, checked as `Case.check` does, in the order model, size, precision, batch.

    `against` may be `None` for what suits each model; `shared` are the other fields of `Case`.
    """
    cases: list[Case] = []
    for model, size, precision, batch in itertools.product(models, sizes, precisions, batches):
        others = tuple(default_candidates(model) if against is None else against)
        cases.append(Case(model, others, precision=precision, size=size, batch=batch, **shared))
        cases[-1].check()
    return cases
