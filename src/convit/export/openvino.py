"""OpenVINO IR: converted from the recorded graph, for one image size; in int8 quantized by NNCF."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from convit.export.graph import Graph
from convit.optimization.openvino import convert, quantized, quiet_libraries


def write(graph: Graph, path: Path, images: Tensor, precision: str) -> None:
    """Convert `graph` for images like `images`, which give the ranges of int8, and write it.

    In bf16 the weights are kept as fp16, which rounds them less; it is the runtime that computes in bf16.
    """
    with quiet_libraries():
        import openvino

    converted = convert(graph, images)
    if precision == "int8":
        converted = quantized(converted, images)
    converted.input(0).get_tensor().set_names({"images"})
    for port, name in zip(converted.outputs, graph.outputs, strict=True):
        port.get_tensor().set_names({name})
    openvino.save_model(converted, path, compress_to_fp16=precision == "bf16")
