"""A model's file, written in each format by the library that knows it.

ONNX by `torch.onnx`, in int8 quantized by ONNX Runtime; OpenVINO IR by OpenVINO, in int8 by NNCF; the others start from
a `torch.export` program: PyTorch's own files, and those for phones, which take one image.
"""

# ExecuTorch, LiteRT and Core ML are installed apart
# pyright: reportMissingImports=false
from __future__ import annotations

import shutil
import warnings
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from convit.export.formats import ExportSettings
from convit.export.graph import Graph
from convit.export.images import ProofImages
from convit.model import ConViT
from convit.optimization.precision import dtype_of
from convit.output.console import quiet_loggers, silenced
from convit.transforms import TransformSettings, normalize_batch

_LOGGERS = ("torch.onnx", "torch.export", "torch._dynamo", "torch._inductor", "torch.utils.cpp_extension")


def write(model: ConViT, outputs: tuple[str, ...], settings: ExportSettings, images: ProofImages, path: Path) -> None:
    """Write a model's file; `images` give the ranges of int8."""
    is_openvino, dtype = settings.format == "openvino", torch.float32
    if settings.format not in ("openvino", "coreml") and settings.precision != "int8":  # whose converters round
        dtype = dtype_of(settings.precision)
    graph = Graph(model, outputs, takes_uint8=settings.input == "uint8", dtype=dtype, apart=is_openvino)
    transform = TransformSettings.from_model(model)
    size = (transform.height, transform.width)

    def calibration() -> Tensor:
        pixels = torch.from_numpy(images.for_ranges(transform))
        return pixels if graph.takes_uint8 else normalize_batch(pixels, transform)

    if is_openvino:
        images_like = calibration() if settings.precision == "int8" else graph.example(*size)
        _write_openvino(graph, path, images_like, settings.precision)
    elif settings.format == "onnx":
        _write_onnx(graph, path, size, settings)
        if settings.precision == "int8":
            quantize_onnx(path, calibration())
    else:
        _write_program(graph, path, size, settings)


def _write_onnx(graph: Graph, path: Path, size: tuple[int, int], settings: ExportSettings) -> None:
    """Record `graph` for images of `size`, (height, width), and write it in one file."""
    height, width = size
    patch, dynamic_size = graph.model.config.patch_size, settings.dynamic_size
    # recorded at the model's own size, a file for any size would hold that position embeddings need no resampling
    images = graph.example(height + patch, width + 2 * patch) if dynamic_size else graph.example(height, width)
    with quiet_loggers(*_LOGGERS, "onnxscript", "root"):
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


def quantize_onnx(path: Path, images: Tensor) -> None:
    """Put a written ONNX file into int8 in place: the products with weights, their ranges from `images`."""
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


def _write_openvino(graph: Graph, path: Path, images: Tensor, precision: str) -> None:
    """Convert `graph` for images like `images`, which give the ranges of int8, and write it as OpenVINO IR.

    In bf16 the weights are kept as fp16, which rounds them less; it is the runtime that computes in bf16.
    """
    from convit.optimization.openvino import convert, quantized, quiet_libraries

    with quiet_libraries():
        import openvino

    converted = convert(graph, images)
    if precision == "int8":
        converted = quantized(converted, images)
    converted.input(0).get_tensor().set_names({"images"})
    for port, name in zip(converted.outputs, graph.outputs, strict=True):
        port.get_tensor().set_names({name})
    openvino.save_model(converted, path, compress_to_fp16=precision == "bf16")


def _write_program(graph: Graph, path: Path, size: tuple[int, int], settings: ExportSettings) -> None:
    """Record `graph` for images of `size`, (height, width), and write its program in the format of the settings."""
    batch = settings.form.batch
    images = graph.example(*size, batch=batch or 2)
    axes = None if batch else (graph.dynamic_axes(size=False),)
    with quiet_loggers(*_LOGGERS), torch.no_grad():
        warnings.simplefilter("ignore")
        graph(images)  # what depends on the grid is computed now and a constant of the file
        program = torch.export.export(graph, (images,), dynamic_shapes=axes)
        if settings.format == "pt2":
            torch.export.save(program, path)
        elif settings.format == "aotinductor":
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
        else:
            with silenced():  # progress and logs of the converters
                _convert(graph, program, images, path, settings)


def _convert(graph: Graph, program: Any, images: Tensor, path: Path, settings: ExportSettings) -> None:
    """Write a program in another library's format."""
    if settings.format == "executorch":
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)
        return
    if settings.format == "litert":
        import litert_torch

        litert_torch.convert(graph, sample_kwargs={"images": images}).export(str(path))
        return
    import coremltools

    made = coremltools.convert(
        program.run_decompositions({}),
        inputs=[coremltools.TensorType("images", images.shape, np.float32)],
        outputs=[coremltools.TensorType(name, dtype=np.float32) for name in graph.outputs],
        compute_precision=coremltools.precision[{"fp32": "FLOAT32", "fp16": "FLOAT16"}[settings.precision]],
        minimum_deployment_target=coremltools.target.iOS18,
    )
    with TemporaryDirectory() as folder:
        made.save(str(Path(folder) / path.stem))
        shutil.make_archive(str(path.with_suffix("")), "zip", folder)
