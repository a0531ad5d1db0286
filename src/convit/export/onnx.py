"""ONNX: written by `torch.onnx` in one file, run by ONNX Runtime."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from convit.export.graph import Graph, Run
from convit.output.console import quiet_loggers


def write(graph: Graph, path: Path, size: tuple[int, int], *, dynamic_size: bool, opset: int) -> None:
    """Record `graph` for images of `size` and write it.

    Raises:
        ValueError: the runtime has no operator for something in the model.
    """
    height, width = size
    patch = graph.model.config.patch_size
    # recorded at the model's own size, a file for any size would hold that position embeddings need no resampling
    images = graph.example(height + patch, width + 2 * patch) if dynamic_size else graph.example(height, width)
    with quiet_loggers("torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "torch.utils.cpp_extension"):
        warnings.simplefilter("ignore")
        if not dynamic_size:
            graph(images)  # what depends on the grid is computed now and a constant of the file
        program = torch.onnx.export(
            graph,
            (images,),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=["images"],
            output_names=list(graph.outputs),
            dynamic_shapes=(graph.dynamic_axes(size=dynamic_size),),
        )
    assert program is not None
    program.save(path, external_data=False)


def load(path: Path) -> Run:
    """Open a file with ONNX Runtime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))
