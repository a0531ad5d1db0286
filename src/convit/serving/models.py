"""Models as a service holds them: loaded once, whatever is asked of them."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from convit.inference import Classifier, Embedder
from convit.inference.exported import ExportedModel
from convit.inference.models import find_exported
from convit.inference.options import RunOptions, check_kind, model_name
from convit.inference.predicting import ImagePredictor

if TYPE_CHECKING:
    from convit.model import ConViT

MOST_KINDS = 16  # of embeddings that one model is asked for


@dataclass(eq=False)
class ServedModel:
    """One model, and what reads its outputs.

    Attributes:
        name: what requests call it.
        source: what `Classifier` and `Embedder` take as their model.
        options: how it is run.
        plain: the same as the paper writes it, to explain what it saw; None where there is only an exported folder.
        classifier: names all of its classes; None for a model without.
        embedders: by kind, made when they are first asked for.
    """

    name: str
    source: Any
    options: RunOptions
    plain: ConViT | None = None
    classifier: Classifier | None = None
    embedders: dict[str, Embedder] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its classes; empty where it has none."""
        return () if self.classifier is None else tuple(self.classifier.labels)

    @property
    def predictor(self) -> ImagePredictor[Any]:
        """Either of what it gives; both read images alike."""
        return self.classifier or self.embedder()

    @cached_property
    def can_embed(self) -> bool:
        """Whether it gives pooled embeddings; an exported file may hold logits alone."""
        try:
            return len(self.embedder().shape) == 1
        except (ValueError, TypeError):
            return False

    def embedder(self, kind: str = "pooled") -> Embedder:
        """What computes one kind of embedding.

        Raises:
            ValueError, TypeError: there is no such kind, or the model cannot give it.
        """
        check_kind(kind)
        if kind not in self.embedders:
            if len(self.embedders) >= MOST_KINDS:
                raise ValueError(f"kind is {kind!r}, but this service gives {MOST_KINDS} kinds at most")
            self.embedders[kind] = Embedder(self.source, kind=kind, options=self.options)
        return self.embedders[kind]

    def warm_up(self) -> None:
        """Run each output once, so that the first request is as fast as the others."""
        file = io.BytesIO()
        Image.new("RGB", (256, 256)).save(file, "JPEG")
        for predictor in (self.predictor, *([self.embedder()] if self.can_embed else [])):
            for _ in predictor.iterate([file.getvalue()] * (predictor.batch_size + 1)):
                pass


def load_served(name: str, options: RunOptions | None = None) -> ServedModel:
    """Load a model for a service; an exported folder without torch.

    Args:
        name: a weight set or variant, or a path: an exported folder, a weight file, or a run.
        options: how it is run.

    Raises:
        ValueError: there is no such model, or it cannot be run so.
        FileNotFoundError, OSError: the weights cannot be found or fetched.
    """
    options = options or RunOptions()
    if (folder := find_exported(name)) is not None:
        runner = ExportedModel(folder, options)
        served = ServedModel(runner.name, runner, RunOptions(apply_exif=options.apply_exif))
        classes = len(runner.labels)
    else:
        served, classes = _load_plain(name, options)
    if classes:
        served.classifier = Classifier(served.source, top_k=classes, options=served.options)
    return served


def _load_plain(name: str, options: RunOptions) -> tuple[ServedModel, int]:
    """A model that PyTorch runs: its fast form, beside the plain one that explains; and its number of classes."""
    from convit.inference.loaded import load_by_name
    from convit.model import ConViT
    from convit.optimization import optimize
    from convit.optimization.precision import default_precision, pick_device

    device, path = pick_device(options.device), Path(name).expanduser()
    is_path = path.exists()
    plain: Any = load_by_name(None, path) if is_path else load_by_name(name, None)
    plain = plain.to(device).eval()
    precision = default_precision(device) if options.precision == "auto" else options.precision
    size = options.batch_size or (8 if device.type == "cpu" else 64)
    fast = optimize(plain, precision, batch_size=size)
    run = RunOptions(batch_size=size, apply_exif=options.apply_exif, img_size=options.img_size)
    shown = model_name(None, path) if is_path else name
    served = ServedModel(shown, fast, run, plain=plain if isinstance(plain, ConViT) else None)
    return served, plain.num_classes
