"""CUDA graphs: a forward pass recorded once per shape and played back, without the cost of launching each kernel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from convit.optimization.batches import Call

_SHAPES_KEPT = 4
_WARM_UP = 3


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    images: Tensor
    result: Tensor


class GraphedCall:
    """Plays a forward pass back from a CUDA graph; shapes seen for the first time are recorded.

    Source: PyTorch's notes on CUDA graphs. The result is written over by the next call of the same shape.

    Args:
        call: the forward pass, without anything that waits for the GPU.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self._recordings: dict[tuple[torch.Size, torch.dtype], _Recording] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """What `call` gives."""
        key = (images.shape, images.dtype)
        with torch.cuda.device(images.device):  # streams and graphs belong to the current one
            if key not in self._recordings:
                while len(self._recordings) >= _SHAPES_KEPT:
                    self._recordings.pop(next(iter(self._recordings)))
                self._recordings[key] = self._record(images)
            recording = self._recordings[key]
            recording.images.copy_(images)
            recording.graph.replay()
        return recording.result

    def _record(self, images: Tensor) -> _Recording:
        given = images.clone()
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):  # libraries set themselves up in the first passes, which may not be recorded
            for _ in range(_WARM_UP):
                self.call(given)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = self.call(given)
        return _Recording(graph, given, result)
