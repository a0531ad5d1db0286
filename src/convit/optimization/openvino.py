"""int8 on CPUs, by OpenVINO and NNCF: ranges from calibration images, 8-bit weights and activations.

Source: NNCF's post-training quantization for transformers (SmoothQuant, fast bias correction).
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections import defaultdict
from collections.abc import Generator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from convit.model import ConViT
from convit.optimization.precision import bfloat16_pays
from convit.output.console import quiet_loggers

_LARGEST_BATCH = 65536


class OpenVinoRunner:
    """Quantizes a model's calls, each on its first use.

    `calibration` holds normalized fp32 batches, all of one height and width.

    Raises:
        ValueError: there is no image, or their sizes differ.
    """

    def __init__(self, calibration: list[Tensor]) -> None:
        sizes = {tuple(batch.shape[1:]) for batch in calibration}
        images = sum(len(batch) for batch in calibration)
        if len(sizes) != 1 or not images:
            raise ValueError(f"calibration has {images} images of {len(sizes)} sizes, but must have some, of one size")
        self.calibration = torch.cat(calibration)

    def __call__(self, model: ConViT, name: str) -> OpenVinoCall:
        """`model.forward` or `model.forward_features` in int8."""
        return OpenVinoCall(_Named(model, name), self.calibration)


class OpenVinoCall:
    """A module, in fp32 on the CPU, quantized and compiled for this processor, for any batch and one image size."""

    def __init__(self, module: nn.Module, calibration: Float[Tensor, "images channels height width"]) -> None:
        self.size = calibration.shape[1:]
        self._graph = quantized(convert(module, calibration), calibration)
        self._lock = threading.Lock()
        # a single image is shared by all threads; of a batch each thread computes a part, and never waits for others
        self._threads = torch.get_num_threads()
        self._shared = self._compile(1).create_infer_request()
        own = self._compile(self._threads) if self._threads > 1 else None
        self._own = [] if own is None else [own.create_infer_request() for _ in range(self._threads)]

    def __call__(self, images: Float[Tensor, "batch channels height width"]) -> Tensor:
        """What the module gives, in fp32.

        Raises:
            ValueError: the images are not of the calibration images' size.
        """
        if images.shape[1:] != self.size:
            raise ValueError(
                f"images are {tuple(images.shape[1:])}, but the int8 model was calibrated for {tuple(self.size)} "
                "(channels, height, width); optimize another one for this size"
            )
        given = images.contiguous().numpy()
        requests = self._own if len(images) >= len(self._own) > 0 else [self._shared]
        parts = np.array_split(given, len(requests))
        with self._lock:  # a request computes one batch at a time
            for request, part in zip(requests, parts, strict=True):
                request.start_async({0: part}, share_inputs=True)
            for request in requests:
                request.wait()
            return torch.from_numpy(np.concatenate([request.get_output_tensor(0).data for request in requests]))

    def layer_times(self, images: Float[Tensor, "batch channels height width"]) -> dict[str, float]:
        """Seconds by kind of layer and instruction set of one call, longest first."""
        request = self._compile(1, PERF_COUNT=True).create_infer_request()
        seconds: dict[str, float] = defaultdict(float)
        for _ in range(2):  # the first one sets up
            request.infer({0: images.contiguous().numpy()})
        for layer in request.profiling_info:
            seconds[f"{layer.node_type}, {layer.exec_type}"] += layer.real_time.total_seconds()
        return dict(sorted(seconds.items(), key=lambda item: -item[1]))

    def _compile(self, streams: int, **options: Any) -> Any:
        import openvino

        return openvino.Core().compile_model(
            self._graph,
            "CPU",
            {
                "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
                "NUM_STREAMS": str(streams),
                "INFERENCE_PRECISION_HINT": "bf16" if bfloat16_pays() else "f32",
                "INFERENCE_NUM_THREADS": self._threads,
                **options,
            },
        )


def convert(module: nn.Module, images: Tensor) -> Any:
    """OpenVINO's graph of a module that takes a batch of images, for any number of images of that size."""
    example = images[:1].expand(2, -1, -1, -1)
    with quiet_libraries():
        import openvino

        module(example)  # what depends on the grid is computed now and a constant of the graph
        any_batch = ({0: torch.export.Dim("batch", min=1, max=_LARGEST_BATCH)},)
        graph = openvino.convert_model(torch.export.export(module, (example,), dynamic_shapes=any_batch))
        graph.reshape([-1, *example.shape[1:]])
    return graph


def quantized(graph: Any, images: Tensor) -> Any:
    """A graph of `convert` in int8, with ranges from `images`."""
    with quiet_libraries():
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        read = nncf.Dataset([image[None].numpy() for image in images])
        # by default, ranges are means over images, which cut off what is rare, and scale channels by what few have seen
        advanced = nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=0.5),
        )
        kind = nncf.ModelType.TRANSFORMER
        return nncf.quantize(graph, read, model_type=kind, subset_size=len(images), advanced_parameters=advanced)


class _Named(nn.Module):
    """A model whose `forward` is the call of that name."""

    def __init__(self, model: ConViT, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, images: Tensor) -> Tensor:
        return getattr(self.model, self.name)(images)


@contextlib.contextmanager
def quiet_libraries() -> Generator[None]:
    """Keep progress bars, log lines and tracer warnings of the two libraries off the screen, and usage data at home."""
    from openvino_telemetry.utils.opt_in_checker import ConsentCheckResult, OptInChecker

    check = OptInChecker.check
    # both send usage data to their maker unless the user has opted out; nobody was asked here
    OptInChecker.check = lambda *_, **__: ConsentCheckResult.DECLINED  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with quiet_loggers("nncf", "openvino", "torch.utils.cpp_extension"), contextlib.redirect_stdout(None):
            warnings.simplefilter("ignore")
            yield
    finally:
        OptInChecker.check = check
