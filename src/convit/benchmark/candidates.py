"""Who takes part in a benchmark, as the command line writes it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from convit.inference.models import find_exported
from convit.optimization.precision import CASTS, PRECISIONS
from convit.training.peers import SOURCES, is_peer
from convit.weights.timm_config import CONFIG_FILE, REGISTERED, read_hub_config
from convit.weights.weight_sets import closest

Relation = Literal["ours", "equal", "another"]
# of ours, and the form of attention that each has; `convit.optimize` chooses for itself
OWN = {"ours": "fused", "eager": "fused", "triton": "triton", "plain": "plain"}
_FORM = "NAME[@PRECISION][+amp][+compile] with NAME timm:MODEL, torchvision:MODEL, eager, triton, plain or ours"


@dataclass(frozen=True)
class Candidate:
    """A model that takes part in a benchmark.

    Attributes:
        name: as it was asked for.
        source: "ours" (`convit.optimize`; in training as "eager"), "exported" (ours as a folder, in its own runtime),
            "eager" (what `create_model` gives), "triton" (with our kernel, on GPUs), "plain" (its plain twin), "timm"
            or "torchvision".
        architecture: name of the model in its library.
        relation: "ours"; "equal": the same weights in another form, whose outputs must agree; "another": another
            model, whose speed may be compared and whose outputs may not.
        precision: its own precision, or None for the benchmark's.
        amp: weights in fp32 and products in the precision, by autocast.
    """

    name: str
    source: str
    architecture: str
    relation: Relation
    precision: str | None = None
    compiled: bool = False
    amp: bool = False

    @property
    def attention(self) -> str:
        """The form of attention of a model of ours, see `ConViT.set_attention`."""
        return OWN[self.source]

    @property
    def is_peer(self) -> bool:
        """Whether it comes from another library."""
        return self.source in SOURCES


def our_candidate(model: str, *, compiled: bool = False) -> Candidate:
    """The one that all others are compared with, of a variant, weight set or exported folder."""
    source = "ours" if find_exported(model) is None else "exported"
    return Candidate("ours", source, architecture_of(model), "ours", compiled=compiled)


def parse_candidate(text: str, model: str) -> Candidate:
    """Read NAME[@PRECISION][+amp][+compile], such as "eager@bf16", compared with our variant or weight set `model`.

    Raises:
        ValueError: the text is not of that form, or names a precision that a cast cannot give.

    >>> parse_candidate("timm:convit_base+compile", "convit_base.fb_in1k").relation
    'equal'
    >>> parse_candidate("timm:deit_base_patch16_224", "convit_base").relation
    'another'
    """
    head, *marks = text.split("+")
    source, at, precision = head.partition("@")
    if not (source in OWN or (is_peer(source) and source.partition(":")[2])):
        meant = closest(source, [*OWN, "timm:convit_base"])
        raise ValueError(f"unknown candidate {text!r}; write {_FORM}; {meant}")
    if len(set(marks)) != len(marks) or not set(marks) <= {"amp", "compile"}:
        raise ValueError(f"{text!r} has +{'+'.join(marks)}, but a candidate can be followed by +amp and +compile")
    allowed = PRECISIONS if source == "ours" else CASTS
    if at and precision not in allowed:
        raise ValueError(f"{text!r} asks for {precision!r}, but {source} can run in {', '.join(allowed)}")
    if "amp" in marks and not is_peer(source):
        raise ValueError(f"{text!r} has +amp, which is for other libraries' models; leave it out, or write eager@bf16")
    architecture = source.partition(":")[2] or architecture_of(model)
    equal = source in OWN or (source.startswith("timm:") and architecture_of(architecture) == architecture_of(model))
    return Candidate(
        name=text,
        source=source.partition(":")[0],
        architecture=architecture,
        relation="equal" if equal else "another",
        precision=precision or None,
        compiled="compile" in marks,
        amp="amp" in marks,
    )


def default_candidates(model: str) -> tuple[str, ...]:
    """Who a model is compared with by default: timm's same model and DeiT, where timm has them, and our eager form."""
    architecture = architecture_of(model)
    if find_exported(model) is not None:
        return ("eager",)
    if architecture in REGISTERED and find_spec("timm") is not None:
        return "eager", f"timm:{architecture}", deit_of(architecture)
    return "eager", "plain"


def deit_of(architecture: str) -> str:
    """The DeiT in timm that is as large as one of its ConViTs.

    >>> deit_of("convit_tiny")
    'timm:deit_tiny_patch16_224'
    """
    return f"timm:{architecture.replace('convit', 'deit')}_patch16_224"


def architecture_of(model: str) -> str:
    """The variant of a weight set's name (what stands before the dot, without a hub's owner) or exported folder."""
    folder = find_exported(model)
    if folder is not None:
        return read_hub_config(folder / CONFIG_FILE)["architecture"]
    return model.rpartition("/")[2].partition(".")[0]
