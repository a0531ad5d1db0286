"""The table of formats: what each writes, needs and can hold."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from convit.output.files import check_packages

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Input = Literal["uint8", "float"]
Outputs = Literal["logits", "embedding", "both", "tokens"]
OPSETS = (18, 23)
LIMITS = {"fp32": 5e-6, "fp16": 2e-2, "bf16": 2e-2}
"""Largest difference from PyTorch, relative to the largest absolute value of that output."""


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        name: as `--to` takes it.
        title: as people call it.
        file: the name of the file in the folder; others may stand beside it.
        precisions: that it can hold, the default first.
        packages: that write and run it, as they are imported.
        extra: of this package, which brings them; empty if they come with it.
        runtime: the package that runs it; empty if nothing here does, so that no result is compared.
        dynamic_size: whether one file can take images of several sizes.
        inputs: that it can take, the default first.
        batch: images at a time; None for any number. Those that take one are experimental.
    """

    name: str
    title: str
    file: str
    precisions: tuple[Precision, ...]
    packages: tuple[str, ...] = ()
    extra: str = ""
    runtime: str = "torch"
    dynamic_size: bool = False
    inputs: tuple[Input, ...] = ("uint8", "float")
    batch: int | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages that are not installed."""
        return tuple(package for package in self.packages if find_spec(package) is None)

    @property
    def note(self) -> str:
        """What to know of the format before it is taken; mostly nothing."""
        if self.batch is None:
            return ""
        compared = "" if self.runtime else ", not compared with PyTorch"
        return f"experimental: one image at a time{compared}, in an environment of its own"


_ONNX = ("onnx", "onnxscript", "onnxruntime")
FORMATS: dict[str, Format] = {
    each.name: each
    for each in (
        Format(
            "onnx", "ONNX", "model.onnx", ("fp32", "fp16", "int8"), _ONNX, "export", "onnxruntime", dynamic_size=True
        ),
        Format(
            "openvino",
            "OpenVINO IR",
            "model.xml",
            ("fp32", "bf16", "int8"),
            ("openvino", "nncf"),
            "quantize",
            "openvino",
        ),
        Format("pt2", "torch.export program", "model.pt2", ("fp32", "bf16")),
        Format("aotinductor", "AOTInductor package", "model.pt2", ("fp32", "bf16")),
        # in fp16 it computes something else for some models, with XNNPACK and without (executorch 1.5)
        Format(
            "executorch", "ExecuTorch", "model.pte", ("fp32",), ("executorch",), "executorch", "executorch", batch=1
        ),
        Format(
            "litert",
            "LiteRT",
            "model.tflite",
            ("fp32",),
            ("litert_torch", "ai_edge_litert"),
            "litert",
            "ai-edge-litert",
            batch=1,
        ),
        Format(  # no uint8 arrays; zipped, since a package is a folder
            "coreml",
            "Core ML",
            "model.mlpackage.zip",
            ("fp32", "fp16"),
            ("coremltools",),
            "coreml",
            "",
            inputs=("float",),
            batch=1,
        ),
    )
}


@dataclass(frozen=True)
class ExportSettings:
    """What is to be written; checked when it is made.

    Attributes:
        format: a key of `FORMATS`.
        precision: one that the format can hold.
        size: (height, width) of the images, pixels; None takes the model's.
        dynamic_size: takes images of any height and width that the patch size divides.
        input: "uint8" (batch, height, width, channels) pixel values, normalized inside, or normalized "float"
            (batch, channels, height, width); None takes uint8 where the format can.
        outputs: "logits", "embedding", "both" or "tokens"; None takes both where the model has both.
        opset: ONNX's; None takes 23, and 18 for int8.

    Raises:
        ValueError: a value that is unknown, or that the format can't hold.
        ImportError: a package of the format is not installed.
    """

    format: str = "onnx"
    precision: str = "fp32"
    size: tuple[int, int] | None = None
    dynamic_size: bool = False
    input: Input | None = None
    outputs: Outputs | None = None
    opset: int | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format is {self.format!r}, but must be one of {', '.join(FORMATS)}")
        form = self.form
        if self.precision not in form.precisions:
            raise ValueError(f"{form.title} is written in {', '.join(form.precisions)}, but not in {self.precision}")
        if self.input is None:
            object.__setattr__(self, "input", form.inputs[0])
        if self.input not in form.inputs:
            raise ValueError(
                f"input is {self.input}, but {form.title} files take {', '.join(form.inputs)}; leave it out"
            )
        if self.dynamic_size and not form.dynamic_size:
            raise ValueError(f"{form.title} files take one image size; give it as --size HEIGHTxWIDTH")
        if self.opset is not None and self.format != "onnx":
            raise ValueError(f"opset is {self.opset}, but {form.title} has no opsets; leave it out")
        if self.opset is not None and self.opset not in OPSETS:
            raise ValueError(f"opset is {self.opset}, but must be {' or '.join(map(str, OPSETS))}")
        if self.precision == "int8" and self.opset not in (None, 18):
            raise ValueError(f"opset is {self.opset}, but ONNX Runtime quantizes opset 18 alone; leave it out")
        check_packages(form.title, *form.packages, extra=form.extra)

    @property
    def onnx_opset(self) -> int | None:
        """The opset of an ONNX file; None of others."""
        if self.format != "onnx":
            return None
        return self.opset or (18 if self.precision == "int8" else 23)

    @property
    def form(self) -> Format:
        """The entry of the table."""
        return FORMATS[self.format]
