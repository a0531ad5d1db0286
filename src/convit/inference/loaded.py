"""A model that PyTorch runs: loaded by name or file, or a module handed over, on its device and in its fast form."""

from __future__ import annotations

import copy
from collections.abc import Generator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from convit.images.formats import ImageError
from convit.images.opening import open_image
from convit.inference.options import DEFAULT_MODEL, RunOptions, layer_of, model_name
from convit.model.config import ConViTConfig, check_divisible
from convit.model.shortcuts import is_hooked
from convit.optimization.optimized import OptimizedConViT
from convit.optimization.precision import dtype_of, name_of, pick_device
from convit.optimization.products import MklProduct, lay_out
from convit.transforms.evaluation import EvaluationTransform, normalize_batch
from convit.transforms.settings import TransformSettings

if TYPE_CHECKING:
    from jaxtyping import Float, Float32, UInt8

MOST_AT_ONCE = 8


class LoadedModel:
    """A model that PyTorch runs; `ExportedModel` has the same attributes and methods.

    A model whose attribute `takes_uint8` is true gets batches of uint8 pixel values (batch, channels, height, width)
    and scales them itself, a quarter of the bytes to move; others get normalized ones in their own type.

    Args:
        model: a name, whose weights are loaded and folded into their fast form (`convit.optimize`); or a module, which
            stays as it is except that it is put into evaluation mode.
        weights, options: as in `Classifier`, with the errors named there.
        num_classes: of a model that is loaded here; `None` keeps its own.

    Attributes:
        name: the model's name, as it can be shown.
        model: the module, or whatever else has its `pretrained_cfg` and `num_classes`.
        settings: the preprocessing, with the size of the input.
        batch_size: images at a time, as asked for or as suits the device.
        is_steady: whether a batch is computed in one way, whatever came before it; otherwise a CPU may lay out weights
            for the number of images that keeps coming, which moves the last bits.
    """

    def __init__(
        self,
        model: str | nn.Module | None,
        weights: str | Path | None,
        options: RunOptions,
        *,
        num_classes: int | None = None,
    ) -> None:
        is_module = isinstance(model, nn.Module)
        if is_module and weights is not None:
            raise ValueError("model is a module that holds its weights already; leave weights out, or name a model")
        stays = is_module and str(options.device) == "auto"
        first = next(iter(model.parameters()), torch.zeros(0)) if is_module else torch.zeros(0)
        self.device = first.device if stays else pick_device(options.device)
        loaded = model if is_module else load_by_name(model, weights, num_classes=num_classes).to(self.device)
        self.name = model_name(model, weights)
        self.settings = TransformSettings.from_model(
            loaded, {"img_size": options.img_size, "crop_pct": options.crop_pct}
        )
        config = getattr(loaded, "config", None)
        if isinstance(config, ConViTConfig) and not config.dynamic_img_pad:
            check_divisible(self.settings.height, self.settings.width, config.patch_size)
        self.is_steady = False
        self.batch_size = options.batch_size or (8 if self.device.type == "cpu" else 64)
        needs_folding = options.precision in ("fastest", "fp8", "int8") and not isinstance(loaded, OptimizedConViT)
        is_folded = not is_module or needs_folding or options.compile
        self.model: Any = (self._fold(loaded, options) if is_folded else self._placed(loaded, options)).eval()
        self._plan = self.model.plan if isinstance(self.model, OptimizedConViT) else None
        self._dtype = next(iter(self.model.parameters()), torch.zeros(0)).dtype

    @property
    def precision(self) -> str:
        """What the model computes in: "fp32", "bf16", "fp16", "fp8" or "int8"."""
        return name_of(self._dtype) if self._plan is None else self._plan.precision

    @property
    def at_once(self) -> int:
        """How many batches of a long run to compute at once, in the threads of `pool`.

        As many as there are cores, up to 8: a batch that two share stands still while either decodes an image.
        """
        if self._plan is None or self.device.type != "cpu" or self._plan.backend != "torch":
            return 1
        # these weights are laid out for one batch after the other, and a hook expects them in their order
        if any(is_hooked(each) or (self.is_steady and isinstance(each, MklProduct)) for each in self.model.modules()):
            return 1
        return min(torch.get_num_threads(), MOST_AT_ONCE)

    @contextmanager
    def pool(self) -> Generator[Executor]:
        """Threads that compute a batch each, on their share of the cores."""
        threads = torch.get_num_threads()
        pool = ThreadPoolExecutor(self.at_once, "convit-compute", torch.set_num_threads, (threads // self.at_once,))
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)  # for threads that come later, which take what was set last

    def check(self, kind: str) -> None:
        """Refuse "logits" or a kind of embedding that the model cannot give: a `ValueError` or `TypeError`."""
        if kind == "logits":
            return
        model, layer = self.model, layer_of(kind)
        needed = "forward_features" if layer is None else "forward_intermediates"
        if not hasattr(model, needed):
            raise TypeError(f"the {type(model).__name__} has no {needed}, which kind={kind!r} reads; use a ConViT")
        depth = len(getattr(model, "blocks", ()))
        if layer is not None and layer >= depth:
            raise ValueError(f"kind is {kind!r}, but the model has {depth} blocks, layer:0 to layer:{depth - 1}")
        if kind in ("pooled", "pre_logits") and getattr(model, "global_pool", None) == "":
            raise ValueError(f"kind is {kind!r}, but the model does not pool (global_pool=''); use kind='tokens'")

    @torch.inference_mode()
    def compute(
        self, pixels: Sequence[UInt8[np.ndarray, "height width channels"]], wanted: str
    ) -> Float32[np.ndarray, "batch ..."]:
        """Compute one output.

        Args:
            pixels: cropped images of uint8 pixel values.
            wanted: what `check` lets pass.
        """
        if self.is_steady:
            lay_out(self.model, now=len(pixels) == self.batch_size)
        levels = torch.from_numpy(np.stack(pixels)).to(self.device)
        if getattr(self.model, "takes_uint8", False):
            images = levels.permute(0, 3, 1, 2)  # a view with channels last; the model scales levels itself
        else:
            images = normalize_batch(levels, self.settings).to(self._dtype)
        found = self.model(images) if wanted == "logits" else read_embedding(self.model, images, wanted)
        return found.float().cpu().numpy()

    def _fold(self, model: nn.Module, options: RunOptions) -> nn.Module:
        """The model's fast form."""
        from convit.optimization import optimize

        precision, calibration = options.precision, None
        if precision == "int8" and self.device.type == "cpu":
            transform, pixels = EvaluationTransform(self.settings), list[np.ndarray]()
            for source in options.calibration or ():
                with suppress(ImageError):
                    pixels.append(transform.to_pixels(open_image(source, apply_exif=options.apply_exif)))
            if options.calibration and not pixels:
                raise ValueError(
                    f"precision is int8, but none of the {len(options.calibration)} images that should give its ranges "
                    "can be read; give others, or take another precision"
                )
            calibration = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) if pixels else None
        size = (self.settings.height, self.settings.width)
        return optimize(
            model,
            precision,
            compile=options.compile,
            batch_size=self.batch_size,
            img_size=size,
            calibration=calibration,
        )

    def _placed(self, model: nn.Module, options: RunOptions) -> nn.Module:
        """A module that was handed over, or a copy of it where the options ask for another device or precision."""
        if isinstance(model, OptimizedConViT):
            if options.precision not in ("auto", model.plan.precision):
                raise ValueError(
                    f"model was optimized for {model.plan.precision}, but precision is {options.precision!r}; leave it "
                    "out, or call convit.optimize with it"
                )
            return model.to(self.device)  # refuses another one
        parameters = list(model.parameters())
        dtype = None if options.precision == "auto" else dtype_of(options.precision)
        place = torch.empty(0, device=self.device).device  # numbered as parameters' are: "cuda" means "cuda:0"
        if all(each.device == place and dtype in (None, each.dtype) for each in parameters):
            return model
        # the caller's module stays where it is
        return copy.deepcopy(model).to(device=self.device, dtype=dtype)


def load_by_name(name: str | None, weights: str | Path | None, *, num_classes: int | None = None) -> nn.Module:
    """Load a weight set, a local file that says which model it is for, or a local file into a named model.

    Without a name it is the model that `weights` describes, else the default; raises the errors of `create_model`.
    """
    from convit.weights import create_model, load_model

    if weights is not None and name is None:
        return load_model(weights, num_classes=num_classes)
    return create_model(name or DEFAULT_MODEL, weights is None, checkpoint_path=weights, num_classes=num_classes)


def read_embedding(
    model: Any,
    images: Float[Tensor, "batch channels height width"] | UInt8[Tensor, "batch channels height width"],
    kind: str,
) -> Float[Tensor, "batch *tokens dim"]:
    """Compute one kind of embedding; see `Embedder` for the kinds."""
    layer = layer_of(kind)
    if layer is not None:
        return model.forward_intermediates(
            images, indices=[layer], output_fmt="NLC", stop_early=True, intermediates_only=True
        )[0]
    if kind == "pooled" and getattr(model, "num_classes", None) == 0:
        return model(images)
    tokens = model.forward_features(images)
    if kind == "tokens":
        return tokens
    if kind == "patches":
        return tokens[:, getattr(model, "num_prefix_tokens", 1) :]
    return model.forward_head(tokens, pre_logits=True)
