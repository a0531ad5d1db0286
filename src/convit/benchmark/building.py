"""Candidates as modules that are ready to be timed, with the same weights wherever they are the same model."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from convit.benchmark.candidates import Candidate
from convit.benchmark.cases import EIGHT_BITS, Case, peer_precision
from convit.benchmark.cost import Cost, count_cost, count_peer_cost
from convit.inference.exported import CONFIG_FILE, ExportedModel, read_config
from convit.inference.options import RunOptions
from convit.model import ConViT, ConViTConfig
from convit.optimization.plan import Step
from convit.optimization.precision import dtype_of
from convit.training.peers import create_peer
from convit.transforms import TransformSettings, normalize_batch
from convit.weights import WEIGHT_SETS, create_model, load_model
from convit.weights.timm_config import read_hub_config

CALIBRATED_ON = 32  # images


@dataclass(frozen=True)
class Entry:
    """A candidate that is ready to be timed.

    Attributes:
        module: takes images of `dtype` on its device.
        computed_in: precision of its products, which may differ from what was asked for.
        backend: what computes it: "torch", "compiled", "cuda graph", "openvino", or an exported file's format.
        cost: of one image.
        steps: that `convit.optimize` took; none for others.
    """

    candidate: Candidate
    module: nn.Module
    dtype: torch.dtype
    computed_in: str
    backend: str
    cost: Cost
    steps: tuple[Step, ...] = ()


class _Autocast(nn.Module):
    """Runs a model of fp32 weights with products in a lower precision, as users of `amp` do."""

    def __init__(self, module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self._device, self._dtype = device.type, dtype

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device, self._dtype):
            return self.module(images)


class _Exported(nn.Module):
    """An exported file as a module of normalized images, which are made pixels again at the first call with them."""

    def __init__(self, model: ExportedModel) -> None:
        super().__init__()
        model.check("logits")
        self.model = model
        self._seen: Tensor | None = None
        self._pixels = np.empty(0, np.uint8)

    def forward(self, images: Tensor) -> Tensor:
        if images is not self._seen:
            mean, std = (
                torch.tensor(each)[:, None, None] for each in (self.model.settings.mean, self.model.settings.std)
            )
            levels = ((images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
            self._seen, self._pixels = images, levels.permute(0, 2, 3, 1).contiguous().numpy()
        return torch.from_numpy(self.model.run(self._pixels, ("logits",))["logits"])


def build_reference(case: Case) -> ConViT:
    """Our model in fp32 on the CPU, with the weights that all equal candidates get: see `weights_of`."""
    size: dict[str, Any] = {} if case.size is None else {"img_size": case.size}
    if case.exported is not None:
        export, transform = read_config(case.exported)[1:]
        size = {"img_size": case.size or export.size or tuple(transform["input_size"][1:])}
        if case.weights is not None:
            return load_model(case.weights, **size)
    if case.weights is not None:
        return create_model(case.model, checkpoint_path=case.weights, **size).eval()
    if (source := _published(case)) is not None:
        return create_model(source, pretrained=True, **size).eval()
    if case.exported is not None:
        config = ConViTConfig.from_dict(read_hub_config(case.exported / CONFIG_FILE)["config"])
        model = ConViT(config.replace(**size)).eval()
    else:
        model = create_model(case.model, **size).eval()
    # fresh weights give logits near 0 and equal gates: these are drawn so that mistakes show
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1 and "pos_" not in name:
                parameter.copy_(1.5 * noise / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(0.3 * noise)
    return model


def weights_of(case: Case) -> str:
    """Where the weights are from: a file, a weight set's name, or "drawn"; see `is_comparable`."""
    own = "drawn" if case.exported is None else "of the file; others drawn"
    return case.weights or _published(case) or own


def _published(case: Case) -> str | None:
    """The weight set that a case names, or that its exported folder was made from."""
    if case.exported is None:
        return case.model if "." in case.model or ":" in case.model else None
    name = (read_config(case.exported)[0]["export"].get("source") or {}).get("name")
    return name if name in WEIGHT_SETS else None


def is_comparable(case: Case) -> bool:
    """Whether others can be given the weights of ours: those of an exported folder only where they are known."""
    return case.exported is None or (case.weights or _published(case)) is not None


def image_size(reference: ConViT) -> tuple[int, int]:
    """Height and width in pixels that a model was made for."""
    return reference.config.image_height, reference.config.image_width


def make_images(case: Case, reference: ConViT) -> Tensor:
    """A batch of random normalized images of the model's size in fp32, the same at each call.

    For an exported folder they are those of random pixels, which a file may want instead.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (case.batch_size, reference.config.in_chans, *image_size(reference))
    if case.exported is None:
        return torch.randn(shape, generator=generator).to(case.torch_device)
    levels = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    settings = TransformSettings.from_card(read_config(case.exported)[2])
    return normalize_batch(levels.permute(0, 2, 3, 1), settings)


def build_entry(case: Case, candidate: Candidate, reference: ConViT) -> Entry:
    """Make a candidate for inference, from a copy of `build_reference`'s model where it is ours.

    Raises:
        ImportError: its library is not installed.
        ValueError: there is no such model, or not at this size, precision or device.
    """
    device = case.torch_device
    if candidate.source == "ours":
        return _build_ours(case, candidate, reference)
    if candidate.source == "exported" and case.exported is not None:
        return _build_exported(case, case.exported, candidate, reference)
    precision = peer_precision(candidate.precision or case.precision, device)
    module, cost = build_module(candidate, reference, device)
    module, dtype = module.eval(), dtype_of(precision)
    module = _Autocast(module, device, dtype) if candidate.amp else module.to(dtype)
    return Entry(
        candidate,
        compiled(module) if candidate.compiled else module,
        torch.float32 if candidate.amp else dtype,
        precision,
        "compiled" if candidate.compiled else "torch",
        cost,
    )


def build_module(candidate: Candidate, reference: ConViT, device: torch.device) -> tuple[nn.Module, Cost]:
    """A candidate in fp32 on a device, not optimized, and its cost per image; raises the errors of `build_peer`."""
    if candidate.is_peer:
        module = build_peer(candidate, reference).to(device)
        return module, count_peer_cost(module, torch.empty(1, reference.config.in_chans, *image_size(reference)))
    module = copy.deepcopy(reference).to(device)
    module.set_attention(candidate.attention)
    return module, count_cost(reference, image_size(reference), plain=candidate.source == "plain")


def build_peer(candidate: Candidate, reference: ConViT) -> nn.Module:
    """Another library's model at our model's size, with our weights where it is the same model; see `build_entry`."""
    config = reference.config
    name = f"{candidate.source}:{candidate.architecture}"
    options: dict[str, Any] = {"num_classes": config.num_classes}
    if candidate.source == "timm" and config.in_chans != 3:
        options["in_chans"] = config.in_chans
    try:
        peer = create_peer(name, img_size=image_size(reference), **options)
    except ValueError:
        # models without a fixed size (convolutions) know no img_size; other mistakes are raised again here
        peer = create_peer(name, **options)
    if candidate.relation == "equal":
        try:
            peer.load_state_dict(reference.state_dict())
        except RuntimeError as error:
            raise ValueError(
                f"{name} does not take our weights of {image_size(reference)} pixels "
                f"({' '.join(str(error).split())[:200]}); leave it out of --against"
            ) from error
    return peer


def compiled(module: nn.Module) -> nn.Module:
    """A module through `torch.compile`, for images of one shape."""
    return cast(nn.Module, torch.compile(module, dynamic=False))


def _build_ours(case: Case, candidate: Candidate, reference: ConViT) -> Entry:
    from convit.optimization import optimize

    precision = candidate.precision or case.precision
    calibration = None
    if precision == "int8" and case.torch_device.type == "cpu":
        # as random as the images that are timed, but others
        shape = (CALIBRATED_ON, reference.config.in_chans, *image_size(reference))
        calibration = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    fast = optimize(
        copy.deepcopy(reference).to(case.torch_device),
        precision,
        compile=candidate.compiled,
        batch_size=case.batch_size,
        calibration=calibration,
    )
    plan = fast.plan
    return Entry(
        candidate,
        fast,
        dtype_of(plan.dtype),
        plan.precision if plan.precision in EIGHT_BITS else plan.dtype,
        plan.backend,
        count_cost(reference, image_size(reference)),
        plan.steps,
    )


def _build_exported(case: Case, folder: Path, candidate: Candidate, reference: ConViT) -> Entry:
    options = RunOptions(img_size=image_size(reference))
    model = ExportedModel(folder, options, threads=torch.get_num_threads())
    cost = count_cost(reference, image_size(reference))
    return Entry(candidate, _Exported(model), torch.float32, model.precision, model.export.format, cost)
