"""PyTorch's own files: a `torch.export` program, and the AOTInductor package that is compiled from it."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from convit.export.graph import Graph
from convit.output.console import quiet_loggers


def write(graph: Graph, path: Path, size: tuple[int, int], *, compiled: bool) -> None:
    """Record `graph` for images of `size`, (height, width), and write it; `compiled` for this machine's processor."""
    images = graph.example(*size)
    with quiet_loggers("torch.export", "torch._inductor", "torch.utils.cpp_extension"), torch.no_grad():
        warnings.simplefilter("ignore")
        graph(images)  # what depends on the grid is computed now and a constant of the file
        program = torch.export.export(graph, (images,), dynamic_shapes=(graph.dynamic_axes(size=False),))
        if compiled:
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
        else:
            torch.export.save(program, path)
