"""How a model's calls are run besides PyTorch as it is: compiled code, recorded CUDA graphs, batches of one size."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Call = Callable[[Tensor], Tensor]
_SHAPES_KEPT = 4
_WARM_UP = 3


class FixedBatch:
    """Cuts what comes into batches of one size (None: the first's) and fills the last one up with zeros.

    Compiled code and recorded graphs are made for one shape; a folder's last few images must not cost another
    compilation. `call` maps a batch to one row per image; the filling's are dropped.
    """

    def __init__(self, call: Call, batch_size: int | None = None) -> None:
        self.call, self.batch_size = call, batch_size

    def __call__(self, images: Tensor) -> Tensor:
        """One row per image."""
        size = self.batch_size = self.batch_size or len(images)
        if len(images) == size:
            return self.call(images)
        parts: list[Tensor] = []
        for start in range(0, max(1, len(images)), size):  # of no image too, for the shape of the result
            part = images[start : start + size]
            filled = torch.cat((part, part.new_zeros(size - len(part), *part.shape[1:]))) if len(part) < size else part
            parts.append(self.call(filled)[: len(part)])
        return torch.cat(parts)


def copied(call: Call) -> Call:
    """Copy each result of a call that overwrites its last one, as a recorded graph does.

    Threads take turns, so that none reads another's result.
    """
    lock = threading.Lock()

    def run(images: Tensor) -> Tensor:
        with lock:
            return call(images).clone()

    return run


def compiled(call: Call, device: torch.device) -> Call:
    """A forward pass as compiled code, made anew for each shape of images.

    On a GPU the code is tuned and recorded as a graph. On a CPU weights, which must stay as they are, become constants
    laid out for the processor ("freezing"), which spares a fifth of the base model's time at batch 1.
    """
    if device.type == "cuda":
        return copied(torch.compile(call, dynamic=False, mode="max-autotune"))
    from torch._inductor import config

    code = torch.compile(call, dynamic=False)

    def run(images: Tensor) -> Tensor:
        # as an option of `torch.compile` it has no effect in PyTorch 2.15; nor has it where gradients are on
        with torch.no_grad(), config.patch(freezing=True):
            return code(images)

    return run


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    images: Tensor
    result: Tensor


class GraphedCall:
    """Plays a forward pass, which never waits for the GPU, back from a CUDA graph, recorded for each shape.

    Source: PyTorch's notes on CUDA graphs. The result is written over by the next call of the same shape.
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
