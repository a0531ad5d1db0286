"""What a large job will cost: core hours, storage and the slowest step, calculated from rates that were measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

RATES = Path(__file__).with_name("rates.json")
_FLOAT = 4  # bytes of a number in a vector


@dataclass(frozen=True)
class Cost:
    """What embedding some images costs; every number is calculated.

    Attributes:
        images: how many.
        model: its name.
        dim: length of a vector.
        seconds: of one core and one image, by step: reading, decoding, model.
        core_hours: of all steps and images.
        cores, hours: how many work at once, and for how long, where they share it evenly and storage keeps up.
        bottleneck: the step that takes the most.
        input_bytes, vector_bytes: what is read, and what the vectors take in fp32 and without compression.
        basis: where the rates come from.
        is_scaled: whether the model's rate follows from another model's, by multiply-accumulates.
    """

    images: int
    model: str
    dim: int
    seconds: dict[str, float]
    core_hours: float
    cores: int
    hours: float
    bottleneck: str
    input_bytes: int
    vector_bytes: int
    basis: str
    is_scaled: bool

    def as_lines(self) -> str:
        """Text for people."""
        from rich.filesize import decimal

        steps = ", ".join(f"{name} {1000 * seconds:.3g} ms" for name, seconds in self.seconds.items())
        model = f"{self.model}{' (by its multiply-accumulates)' * self.is_scaled}"
        return (
            f"calculated, not measured, from the rates of {self.basis}\n\n"
            f"  images       {self.images:,}, {decimal(self.input_bytes, precision=2)} to read\n"
            f"  model        {model}, fp32\n"
            f"  one image    {steps} of one core\n"
            f"  bottleneck   {self.bottleneck}\n"
            f"  computing    {self.core_hours:,.0f} core hours: {self.hours:,.1f} h on {self.cores:,} cores\n"
            f"  vectors      {decimal(self.vector_bytes, precision=2)} ({self.dim} numbers each, fp32)\n"
        )


def plan_job(
    images: int,
    model: str = "convit_base",
    *,
    bytes_per_image: int = 110_000,
    dim: int | None = None,
    cores: int = 64,
    rates: Path = RATES,
) -> Cost:
    """Calculate what it costs to embed images: (reading + decoding + model) seconds per image, times images.

    Reading is bytes by the rate of reading a tar file; decoding grows with the bytes of a file, along the line through
    two sizes that were measured; a model that was not measured takes the time of the nearest one, times the ratio of
    their multiply-accumulates.

    Args:
        images: how many.
        model: a variant or a weight set.
        bytes_per_image: size of a JPEG file on average; ImageNet's have 110,000.
        dim: length of a vector, in place of the model's.
        cores: CPU cores that work at once.
        rates: what `benchmarks/scale.py` measured.

    Raises:
        ValueError: a number is less than 1, or there is no such model.
    """
    for name, value in {"images": images, "bytes_per_image": bytes_per_image, "dim": dim, "cores": cores}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}, but must be at least 1")
    from convit.weights.weight_sets import check_model_name

    check_model_name(model)
    known = json.loads(rates.read_text(encoding="utf-8"))
    architecture = model.partition(".")[0]
    width, forward, is_scaled = _of_model(architecture, known["models"])
    small, large = known["decode"]
    slope = (large["seconds"] - small["seconds"]) / (large["bytes"] - small["bytes"])
    seconds = {
        "reading": bytes_per_image / known["read"]["bytes_per_second"],
        "decoding": max(small["seconds"] + slope * (bytes_per_image - small["bytes"]), small["seconds"]),
        "model": forward,
    }
    core_hours = sum(seconds.values()) * images / 3600
    return Cost(
        images=images,
        model=model,
        dim=dim or width,
        seconds=seconds,
        core_hours=core_hours,
        cores=cores,
        hours=core_hours / cores,
        bottleneck=max(seconds, key=lambda name: seconds[name]),
        input_bytes=images * bytes_per_image,
        vector_bytes=images * (dim or width) * _FLOAT,
        basis=f"{known['machine']['device']}, {known['machine']['date'][:10]}",
        is_scaled=is_scaled,
    )


def _of_model(architecture: str, measured: dict[str, dict[str, float]]) -> tuple[int, float, bool]:
    """Length of a model's vectors, seconds of one core and image, and whether these follow from another model's."""
    from convit.model import VARIANTS
    from convit.model.counting import count_operations

    config = VARIANTS[architecture].config
    if architecture in measured:
        return config.dim, measured[architecture]["seconds"], False
    gmacs = count_operations(config).gmacs
    nearest = min(measured.values(), key=lambda each: abs(each["gmacs"] - gmacs))
    return config.dim, nearest["seconds"] * gmacs / nearest["gmacs"], True
