"""Data sets of the Hugging Face hub, through its `datasets` library."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from convit.data.columns import choose_columns, read_labels
from convit.images import open_image

PREFIX = "hub:"


class HubSamples:
    """Images and labels of one split of a hub data set; the library fetches it once and maps it from its cache.

    Args:
        source: "hub:owner/name", "hub:owner/name:split" or "hub:owner/name/config:split"; the split is "train" where
            none is said.
        classes: class names in the model's order, to which the set's are matched.

    Raises:
        ConnectionError: the hub cannot be reached.
        FileNotFoundError: there is no such data set.
        ImportError: the library is not installed.
        ValueError: `source` is written otherwise, there is no such split or configuration, the set lacks images or
            labels, or a label is no class.
    """

    def __init__(self, source: str, classes: Sequence[str] | None = None) -> None:
        self._name = source
        name, config, split = parse_hub(source)
        self.split = split
        datasets = _library()
        table = _load(datasets, source, name, config, split)
        self.fingerprint: str = table._fingerprint  # of the set's files, before anything is done to it
        features = {column: {"_type": type(kind).__name__} for column, kind in table.features.items()}
        self._image, label = choose_columns(table.features.arrow_schema, features, source)
        notes = {"names": getattr(table.features[label], "names", None)}
        column = table.select_columns([label]).with_format("arrow")[:].column(label)
        self.labels, self.classes = read_labels(column, notes, classes, source)
        if not self.labels:
            raise ValueError(f"{source} has no row; choose another split")
        if features[self._image]["_type"] == "Image":
            # decoded here like every other image, with the same errors
            table = table.cast_column(self._image, datasets.Image(decode=False))
        self._table = table.select_columns([self._image])
        self.names = _RowNames(source, len(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """The decoded RGB image.

        Raises:
            ValueError: the image cannot be read.
        """
        return open_image(self.stored(index), name=self.names[index])

    def stored(self, index: int) -> bytes | Path:
        """The encoded image, or the file that holds it; no bytes where there is neither."""
        value: Any = self._table[index][self._image]
        data = value.get("bytes") if isinstance(value, dict) else value
        path = value.get("path") if isinstance(value, dict) else None
        return data or (Path(path) if path else b"")


class _RowNames(Sequence[str]):
    def __init__(self, source: str, length: int) -> None:
        self._source, self._length = source, length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        return f"{self._source} row {index}"


def parse_hub(source: str) -> tuple[str, str | None, str]:
    """(owner/name, configuration, split) of "hub:owner/name/config:split".

    Raises:
        ValueError: it is written otherwise.

    >>> parse_hub("hub:uoft-cs/cifar10:test")
    ('uoft-cs/cifar10', None, 'test')
    """
    name, _, split = source.removeprefix(PREFIX).partition(":")
    parts = name.split("/")
    if len(parts) not in (2, 3) or not all(parts) or ":" in split:
        raise ValueError(
            f"{source!r} is no hub data set; write hub:owner/name, hub:owner/name:split or hub:owner/name/config:split"
        )
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None, split or "train"


def _library() -> Any:
    try:
        return import_module("datasets")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"hub data sets need the package '{error.name}'; install it with: pip install 'convit[hub]'"
        ) from error


def _load(datasets: Any, source: str, name: str, config: str | None, split: str) -> Any:
    try:
        return datasets.load_dataset(name, config, split=split)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no hub data set {name} that you can read ({_first_line(error)}); check the name, and log in "
            f"with `hf auth login` if it is private or gated"
        ) from error
    except ValueError as error:
        raise ValueError(f"{source} cannot be opened: {_first_line(error)}") from error
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ConnectionError(
            f"{source} cannot be fetched ({_first_line(error)}); check the network, or set HF_DATASETS_OFFLINE=1 to "
            f"use what was fetched before"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
