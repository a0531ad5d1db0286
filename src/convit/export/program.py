"""What starts from a `torch.export` program: PyTorch's own files, and those for phones, which take one image."""

# ExecuTorch, LiteRT and Core ML are installed apart
# pyright: reportMissingImports=false
from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from convit.export.formats import ExportSettings
from convit.export.graph import Graph
from convit.output.console import quiet_loggers, silenced


def write(graph: Graph, path: Path, size: tuple[int, int], settings: ExportSettings) -> None:
    """Record `graph` for images of `size`, (height, width), and write it in the format of the settings."""
    batch = settings.form.batch
    images = graph.example(*size, batch=batch or 2)
    axes = None if batch else (graph.dynamic_axes(size=False),)
    with quiet_loggers("torch.export", "torch._inductor", "torch.utils.cpp_extension"), torch.no_grad():
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


def _convert(graph: Graph, program: Any, images: torch.Tensor, path: Path, settings: ExportSettings) -> None:
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
