"""The part that all predictors share: a model on its device, and the way from pictures to its outputs."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from convit.images.errors import ImageError
from convit.images.opening import ImageSource, open_image, open_reduced, source_name
from convit.inference.gpu_decoding import GpuReader, check_decoder, find_decoder
from convit.inference.loading import default_workers, read_batches
from convit.model.config import ConViTConfig, check_divisible
from convit.optimization.precision import check_precision, default_precision, dtype_of, name_of, pick_device
from convit.output.results import Timings
from convit.transforms import EvaluationTransform, TransformSettings, resolve_model_data_config
from convit.transforms.tensors import normalize_batch

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

DEFAULT_MODEL = "convit_base.fb_in1k"
Outputs = tuple[np.ndarray, ...]


class Row(NamedTuple):
    """One picture's outputs, or what is wrong with it."""

    name: str
    outputs: Outputs | None
    error: ImageError | None


class _Read(NamedTuple):
    name: str
    pixels: UInt8[np.ndarray, "height width channels"] | UInt8[Tensor, "height width channels"] | None
    error: ImageError | None
    source: Any = None  # where the pixels are still to be decoded, from `encoded`
    encoded: bytes | None = None


class Options(NamedTuple):
    """How a predictor runs, as the caller asked for it; see `Classifier` for the meanings."""

    device: str | torch.device = "auto"
    precision: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    apply_exif: bool = True
    img_size: int | tuple[int, int] | None = None
    fast_decode: bool = False
    decode: str = "cpu"
    compile: bool = False
    calibration: Sequence[ImageSource] | None = None

    def check(self) -> None:
        """Refuse what is out of range, before a model is loaded.

        Raises:
            ValueError: an option is out of range.
        """
        check_precision(self.precision)
        check_decoder(self.decode)
        for name, value, least in (("batch_size", self.batch_size, 1), ("workers", self.workers, 0)):
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, but must be at least {least}; leave it out to have it chosen")
        sides = (self.img_size,) if isinstance(self.img_size, int) else self.img_size
        if sides is not None and (len(sides) > 2 or min(sides) < 1):
            raise ValueError(f"img_size is {self.img_size}, but must be a side or (height, width) in pixels")


class Predictor:
    """Runs a model over pictures: reads them ahead in threads, stacks them, and keeps the order.

    `Classifier` and `Embedder` say what is read off the model, in `_forward`. A model whose attribute `takes_uint8` is
    true gets batches of 8-bit levels (batch, channels, height, width) and scales them itself, a quarter of the bytes to
    move; others get normalized ones in their own type.

    Args:
        model: a name, whose weights are loaded and folded into their fast form (`convit.optimize`); or a module, which
            stays as it is except that it is put into evaluation mode.
        weights: a local file or folder.
        options: how to run.
        load_options: what `create_model` and `load_model` get besides, for models that are loaded here.

    Raises:
        ValueError: an option is out of range, or both a module and weights are given.
        Whatever `create_model` and `load_model` raise.

    Attributes:
        name: the model's name, as it can be shown.
        model: the model, in evaluation mode.
        device: where it runs.
        dtype: the type of what it carries between its layers.
        transform: how pictures are resized, cropped and scaled.
        batch_size: pictures per forward pass.
        workers: threads that open pictures.
        apply_exif: whether pictures are turned upright.
    """

    def __init__(
        self, model: str | nn.Module | None, weights: str | Path | None, options: Options, **load_options: Any
    ) -> None:
        options.check()
        if isinstance(model, nn.Module):
            if weights is not None:
                raise ValueError("model is a module that holds its weights already; leave weights out, or name a model")
            self.device = _placement(model, options)
        else:
            self.device = pick_device(options.device)
        decode = find_decoder(self.device) if options.decode == "gpu" else None  # refused before anything is loaded
        loaded = model if isinstance(model, nn.Module) else load_by_name(model, weights, **load_options).to(self.device)
        self.name = _name_of(model, weights, loaded)
        size = None if options.img_size is None else {"img_size": options.img_size}
        self.transform = EvaluationTransform(TransformSettings(**resolve_model_data_config(loaded, size)))
        _check_size(loaded, self.transform.settings)
        self.batch_size = options.batch_size or (8 if self.device.type == "cpu" else 64)
        self.workers = default_workers() if options.workers is None else options.workers
        self.apply_exif = options.apply_exif
        # twice the size before the crop leaves the resizing enough to average over
        self._at_least = 2 * max(self.transform.settings.resized_size) if options.fast_decode else None
        settings = self.transform.settings
        self._gpu_reader = None if decode is None else GpuReader(decode, settings, apply_exif=self.apply_exif)
        self._clock = _Clock()
        is_folded = not isinstance(model, nn.Module) or options.precision in ("fp8", "int8") or options.compile
        self.model = self._fold(loaded, options) if is_folded else _placed(loaded, self.device, options)
        self.model.eval()
        self.dtype = next(iter(self.model.parameters()), torch.zeros(0)).dtype

    @property
    def precision(self) -> str:
        """What the model computes in: "fp32", "bf16", "fp16", "fp8" or "int8"."""
        plan = getattr(self.model, "plan", None)
        return name_of(self.dtype) if plan is None else plan.precision

    @property
    def timings(self) -> Timings:
        """Where the time of the last run went, or of the one under way."""
        return self._clock.timings

    def _forward(
        self, images: Float[Tensor, "batch channels height width"] | UInt8[Tensor, "batch channels height width"]
    ) -> tuple[Tensor, ...]:
        """Compute what is wanted of a batch on the device: tensors with one row per picture."""
        raise NotImplementedError

    def _run(self, sources: Iterable[ImageSource]) -> Iterator[Row]:
        """Give one row per picture, in order; without outputs where it cannot be read or they are not finite."""
        if isinstance(sources, str | os.PathLike | bytes | Image.Image):
            raise TypeError(f"several pictures are asked for, but got one {type(sources).__name__}; put it into a list")
        clock = self._clock = _Clock()
        alone = isinstance(sources, Sequence) and len(sources) == 1
        batches = read_batches(sources, self._read, batch_size=self.batch_size, workers=0 if alone else self.workers)
        with closing(batches):
            while (batch := clock.wait_for(batches)) is not None:
                for row in self._apply(batch):
                    clock.count(row)
                    yield row
        clock.tick()

    def _fold(self, model: nn.Module, options: Options) -> nn.Module:
        """The model's fast form."""
        from convit.optimization import optimize

        precision, calibration = options.precision, None
        if precision == "auto":
            precision = default_precision(self.device)
        elif precision == "int8" and self.device.type == "cpu":
            calibration = self._read_levels(options.calibration or ())
        return optimize(model, precision, compile=options.compile, batch_size=self.batch_size, calibration=calibration)

    def _read_levels(self, sources: Sequence[ImageSource]) -> UInt8[Tensor, "images channels height width"] | None:
        """Pictures as the model will see them, in 8 bits; those that cannot be read are left out."""
        pixels = [read.pixels for read in map(self._read_here, sources) if read.pixels is not None]
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) if pixels else None

    def _read(self, source: ImageSource) -> _Read:
        if self._gpu_reader is not None and (encoded := self._gpu_reader.take(source)) is not None:
            return _Read(source_name(source), None, None, source, encoded)
        return self._read_here(source)

    def _read_here(self, source: ImageSource) -> _Read:
        name = source_name(source)
        try:
            if self._at_least is None:
                image = open_image(source, apply_exif=self.apply_exif)
                return _Read(name, self.transform.to_pixels(image), None)
            image, full_size = open_reduced(source, apply_exif=self.apply_exif, at_least=self._at_least)
            return _Read(name, self.transform.to_nearly_equal_pixels(image, full_size), None)
        except ImageError as error:
            return _Read(name, None, error)

    @torch.inference_mode()
    def _decode_on_gpu(self, batch: list[_Read]) -> list[_Read]:
        """Fill in the pixels of those that are still encoded."""
        encoded = [read.encoded for read in batch if read.encoded is not None]
        if self._gpu_reader is None or not encoded:
            return batch
        found = self._gpu_reader.read(encoded)
        if found is None:
            return [read if read.encoded is None else self._read_here(read.source) for read in batch]
        pixels = iter(found)
        return [read if read.encoded is None else _Read(read.name, next(pixels), None) for read in batch]

    def _apply(self, batch: list[_Read]) -> Iterator[Row]:
        batch = self._decode_on_gpu(batch)
        pixels = [read.pixels for read in batch if read.pixels is not None]
        outputs = iter(self._compute(_stack(pixels, self.device)) if pixels else ())
        for read in batch:
            if read.error is not None:
                yield Row(read.name, None, read.error)
                continue
            output = next(outputs)
            if all(np.isfinite(values).all() for values in output):
                yield Row(read.name, output, None)
            else:
                problem = f"the model's output is not finite in {self.precision}; use precision='fp32'"
                yield Row(read.name, None, ImageError(read.name, problem))

    @torch.inference_mode()
    def _compute(
        self, pixels: UInt8[np.ndarray, "batch height width channels"] | UInt8[Tensor, "batch height width channels"]
    ) -> list[Outputs]:
        """Give each picture's outputs for a stack of cropped pictures."""
        levels = (pixels if isinstance(pixels, Tensor) else torch.from_numpy(pixels)).to(self.device)
        if getattr(self.model, "takes_uint8", False):
            images = levels.permute(0, 3, 1, 2)  # a view with channels last; the model scales levels itself
        else:
            images = normalize_batch(levels, self.transform.settings).to(self.dtype)
        fetched = [output.cpu().numpy() for output in self._forward(images)]
        return list(zip(*fetched, strict=True))


def _stack(pixels: list[Any], device: torch.device) -> Any:
    """One batch of pictures, on the device where some of them lie there already."""
    if not any(isinstance(each, Tensor) for each in pixels):
        return np.stack(pixels)
    return torch.stack([each if isinstance(each, Tensor) else torch.tensor(each, device=device) for each in pixels])


class _Clock:
    """Measures one run."""

    def __init__(self) -> None:
        self._start = self._latest = perf_counter()
        self._waiting = 0.0
        self._images = self._failed = 0

    def wait_for(self, batches: Iterator[list[_Read]]) -> list[_Read] | None:
        before = self.tick()
        batch = next(batches, None)
        self._waiting += self.tick() - before
        return batch

    def count(self, row: Row) -> None:
        self._images += 1
        self._failed += row.error is not None
        self.tick()

    def tick(self) -> float:
        self._latest = perf_counter()
        return self._latest

    @property
    def timings(self) -> Timings:
        return Timings(self._images, self._failed, self._latest - self._start, self._waiting)


def load_by_name(name: str | None, weights: str | Path | None, **load_options: Any) -> nn.Module:
    """Load a weight set, a local file that says which model it is for, or a local file into a named model.

    Args:
        name: a variant or weight set; None for the model that `weights` describes, else the default.
        weights: a local file or folder instead of published weights.
        load_options: what `create_model` and `load_model` get besides.

    Raises:
        Whatever `create_model` and `load_model` raise.
    """
    from convit.weights import create_model, load_model

    if weights is None:
        return create_model(name or DEFAULT_MODEL, pretrained=True, **load_options)
    if name is None:
        return load_model(weights, **load_options)
    return create_model(name, checkpoint_path=weights, **load_options)


def _placement(model: nn.Module, options: Options) -> torch.device:
    """Where a module runs that was handed over: where it is, unless the options name another place."""
    if str(options.device) != "auto":
        return pick_device(options.device)
    return next(iter(model.parameters()), torch.zeros(0)).device


def _placed(model: nn.Module, device: torch.device, options: Options) -> nn.Module:
    """A module that was handed over, or a copy of it where the options ask for another device or precision."""
    parameters = list(model.parameters())
    dtypes = {parameter.dtype for parameter in parameters}
    dtype = None if options.precision == "auto" else dtype_of(options.precision)
    if {parameter.device for parameter in parameters} <= {device} and (dtype is None or dtypes <= {dtype}):
        return model
    # the caller's module stays where it is
    return copy.deepcopy(model).to(device=device, dtype=dtype)


def _check_size(model: nn.Module, settings: TransformSettings) -> None:
    config = getattr(model, "config", None)
    if isinstance(config, ConViTConfig) and not config.dynamic_img_pad:
        check_divisible(settings.height, settings.width, config.patch_size)


def _name_of(model: str | nn.Module | None, weights: str | Path | None, loaded: nn.Module) -> str:
    if isinstance(model, str):
        return model
    if model is None:
        return DEFAULT_MODEL if weights is None else Path(weights).name
    card = getattr(loaded, "pretrained_cfg", None) or {}
    known = ".".join(str(card[key]) for key in ("architecture", "tag") if card.get(key))
    return known or type(loaded).__name__
