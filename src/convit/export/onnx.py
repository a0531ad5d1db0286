"""ONNX: written by `torch.onnx` in one file; in int8 quantized by ONNX Runtime, with ranges from images."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from convit.export.formats import ExportSettings
from convit.export.graph import Graph
from convit.output.console import quiet_loggers

_LOGGERS = ("torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "torch.utils.cpp_extension", "root")


def write(graph: Graph, path: Path, size: tuple[int, int], settings: ExportSettings) -> None:
    """Record `graph` for images of `size`, (height, width), and write it."""
    height, width = size
    patch, dynamic_size = graph.model.config.patch_size, settings.dynamic_size
    # recorded at the model's own size, a file for any size would hold that position embeddings need no resampling
    images = graph.example(height + patch, width + 2 * patch) if dynamic_size else graph.example(height, width)
    with quiet_loggers(*_LOGGERS):
        warnings.simplefilter("ignore")
        if not dynamic_size:
            graph(images)  # what depends on the grid is computed now and a constant of the file
        program = torch.onnx.export(
            graph,
            (images,),
            dynamo=True,
            verbose=False,
            opset_version=settings.onnx_opset,
            input_names=["images"],
            output_names=list(graph.outputs),
            dynamic_shapes=(graph.dynamic_axes(size=dynamic_size),),
        )
    assert program is not None
    program.save(path, external_data=False)


def quantize(path: Path, images: Tensor) -> None:
    """Put a written file into int8 in place: the products with weights, their ranges from `images`."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    reader: Any = SimpleNamespace(get_next=partial(next, ({"images": image[None].numpy()} for image in images), None))
    with TemporaryDirectory(dir=path.parent) as folder, quiet_loggers("root"):
        warnings.simplefilter("ignore")
        prepared = Path(folder) / path.name
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared, load_external_data=False).graph
        weights = {each.name for each in graph.initializer if len(each.dims) in (2, 4)}
        quantize_static(
            prepared,
            path,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            # products of activations, and position attention, stay as they are
            nodes_to_exclude=[node.name for node in graph.node if not weights & set(node.input)],
            per_channel=True,
            calibrate_method=CalibrationMethod.MinMax,
        )
