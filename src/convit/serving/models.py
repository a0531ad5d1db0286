"""Models as a service holds them: loaded once, whatever is asked of them."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from convit.inference import Classifier, Embedder
from convit.inference.exported import ExportedModel
from convit.inference.models import find_exported, open_model
from convit.inference.options import RunOptions, check_kind
from convit.inference.predicting import ImagePredictor
from convit.weights.files import weights_file
from convit.weights.weight_sets import local_weights

if TYPE_CHECKING:
    from convit.model import ConViT
    from convit.search import Index


@dataclass(eq=False)
class ServedModel:
    """One model, and what reads its outputs.

    Attributes:
        name: what requests call it.
        source: what `Classifier` and `Embedder` take as their model.
        options: how it is run.
        weights: name and path that it is loaded by once more, to explain what it saw; None for an exported folder.
        classifier: names all of its classes; None for a model without.
        embedders: by kind, made when they are first asked for.
    """

    name: str
    source: Any
    options: RunOptions
    weights: tuple[str | None, Path | None] | None = None
    classifier: Classifier | None = None
    embedders: dict[str, Embedder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._read_from = self._place()

    def _place(self) -> tuple[int, int] | None:
        """Which file is at the weights' path, where they have one."""
        path = None if self.weights is None else self.weights[1]
        if path is None:
            return None
        found = weights_file(path).stat()
        return found.st_ino, found.st_mtime_ns

    @cached_property
    def plain(self) -> ConViT:
        """The model as the paper writes it, loaded when it is first asked for: not every service explains.

        Raises:
            ValueError, OSError: the weights were replaced or removed since the service was started.
        """
        from convit.inference.loaded import load_by_name

        if self.weights is None or self._place() != self._read_from:
            raise ValueError(f"the weights of {self.name} are no longer those it started with; start it again")
        plain: Any = load_by_name(*self.weights)
        return plain.to(self.predictor.device).eval()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its classes; empty if it has none."""
        return () if self.classifier is None else tuple(self.classifier.labels)

    @property
    def predictor(self) -> ImagePredictor[Any]:
        """Any of what it gives; all read images alike."""
        return self.classifier or self.embedder("pooled" if self.can_embed else "tokens")

    @cached_property
    def can_embed(self) -> bool:
        """Whether it gives pooled embeddings; an exported file may hold logits or tokens alone."""
        try:
            return len(self.embedder().shape) == 1
        except (ValueError, TypeError):
            return False

    def embedder(self, kind: str = "pooled") -> Embedder:
        """Return the embedder of a kind; raises `ValueError` or `TypeError` if the model has no such kind."""
        check_kind(kind)
        if kind not in self.embedders:
            self.embedders[kind] = Embedder(self.source, kind=kind, options=self.options)
        return self.embedders[kind]

    def warm_up(self) -> None:
        """Run each output, so that the first request is as fast as the others.

        One image at a time: a GPU's recorded graphs hold whole batches whatever comes, and on a CPU weights are laid
        out for a number of images when it comes for the second time.
        """
        file = io.BytesIO()
        Image.new("RGB", (256, 256)).save(file, "JPEG")
        for _ in range(2):
            list(self.predictor.iterate([file.getvalue()]))
        assert self.can_embed is not None  # which runs the model


def load_served(name: str, options: RunOptions | None = None) -> ServedModel:
    """Load a model for a service; an exported folder without torch.

    Args:
        name: a weight set or variant, or a path: an exported folder, a weight file, or a run.
        options: how it is run.

    Raises:
        ValueError: there is no such model, or it cannot be run so.
        FileNotFoundError, OSError: the weights cannot be found or fetched.
    """
    options, weights = options or RunOptions(), name_or_path(name)
    runner = open_model(*weights, options)
    run = replace(options, batch_size=runner.batch_size, device="auto", precision="auto")  # of what is loaded
    is_exported = isinstance(runner, ExportedModel)
    served = ServedModel(runner.name, runner.model, run, None if is_exported else weights)
    if runner.model.num_classes:
        served.classifier = Classifier(served.source, top_k=runner.model.num_classes, options=run)
    return served


def name_or_path(name: str) -> tuple[str | None, Path | None]:
    """What `open_model` takes for a name: itself, or the path of weights that it is by `local_weights`."""
    path = None if find_exported(name) else local_weights(name)
    return (name, None) if path is None else (None, path)


def open_index(db: str | Path, options: RunOptions) -> Index:
    """Open an index and its model; raises `FileNotFoundError` if there is none, `ValueError` if it cannot be used."""
    from convit.search import Index
    from convit.search.store import check_place

    db = Path(db)
    check_place(db, create=False)
    precision = options.precision if options.precision in ("fp32", "bf16", "fp16") else None
    index = Index.open(db, device=options.device, precision=precision, batch_size=options.batch_size)
    index.embedder([])  # loads the model, and finds what is wrong with the index
    return index
