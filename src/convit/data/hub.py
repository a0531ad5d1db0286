"""Data sets of the Hugging Face hub, through its `datasets` library."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from convit.data.classes import named
from convit.data.identity import ContentDigests, sha256_of_lines
from convit.data.locate import Source
from convit.data.parquet import choose_columns, read_labels
from convit.data.samples import Rows, Samples
from convit.data.splits import SplitError, spellings, with_split
from convit.output.files import check_packages
from convit.output.text import first_line

PREFIX = "hub:"
_SPLITS = ("train", "val", "validation", "test")  # what the hub calls parts


class HubSamples(Samples):
    """Images and labels of one split of a hub data set; the library fetches it once and maps it from its cache.

    `source` is "hub:owner/name", "hub:owner/name:split" or "hub:owner/name/config:split"; the split is "train" where
    none is said. Errors are those of `convit.data.open_samples`.
    """

    kind = "hub"

    def __init__(self, source: str) -> None:
        name, config, split = parse_hub(source)
        check_packages("a hub data set", "datasets", extra="hub")
        datasets: Any = import_module("datasets")
        table = _load(datasets, source, name, config, split)
        self.fingerprint: str = table._fingerprint  # of the set's files, before anything is done to it
        features = {column: {"_type": type(kind).__name__} for column, kind in table.features.items()}
        self._image, label = choose_columns(table.features.arrow_schema, features, source)
        assert label is not None
        notes = {"names": getattr(table.features[label], "names", None)}
        column = table.select_columns([label]).with_format("arrow")[:].column(label)
        labels, classes = read_labels(column, notes, source)
        if not labels:
            raise ValueError(f"{source} has no row; choose another split")
        if features[self._image]["_type"] == "Image":
            # decoded here like every other image, with the same errors
            table = table.cast_column(self._image, datasets.Image(decode=False))
        self._table = table.select_columns([self._image])
        caches = (datasets.config.HF_CACHE_HOME, datasets.config.HF_DATASETS_CACHE, constants.HF_HUB_CACHE)
        # a folder here that is called as the set goes before the hub's
        self._folders = [Path(folder).resolve() for folder in (*caches, *([name] if Path(name).is_dir() else []))]
        names = Rows(len(labels), partial("{} row {}".format, source))
        super().__init__(labels, names, named(classes), f"the label column of {source}")
        self.name = source if source.endswith(f":{split}") else f"{source}:{split}"  # whether it was said or not
        self.digests = ContentDigests(len(labels))

    def stored(self, index: int) -> bytes | Path:
        """The encoded image, or the file that holds it; no bytes where there is neither.

        Raises:
            ValueError: that file lies neither in the data set's folder nor in the library's caches.
        """
        value: Any = self._table[index][self._image]
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if data or not path:
            return data or b""
        if not any(Path(path).resolve().is_relative_to(folder) for folder in self._folders):
            raise ValueError(
                f"{self.names[index]} names {path}, a file outside of the data set's own folder and cache, which is "
                "not read; take another data set, or put its images into it"
            )
        return Path(path)

    def identity(self) -> dict[str, Any]:
        """The set's name with its split, the library's fingerprint, and one sha256 over "sha256  label" of all rows."""
        known = {"kind": self.kind, "name": self.name, "fingerprint": self.fingerprint}
        return {**known, "sha256": sha256_of_lines(self._digest_lines(self.labels))}


def open_source(source: Source, *, root: str | Path | None, split: str | None, in_memory: bool) -> Samples:
    """Open a hub data set; only its own library knows what splits there are."""
    name = str(source)
    said = name.removeprefix(PREFIX).partition(":")[2]
    if split is None or said:
        return HubSamples(name if split is None else with_split(name, split, said))
    refused: list[SplitError] = []
    for spelling in [name for name in spellings(split) if name == split or name in _SPLITS]:
        try:
            return HubSamples(f"{name}:{spelling}")
        except SplitError as error:
            refused.append(error)
    raise refused[0]


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
            f"{source!r} is not a hub data set; write hub:owner/name, hub:owner/name:split or "
            "hub:owner/name/config:split"
        )
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None, split or "train"


def _load(datasets: Any, source: str, name: str, config: str | None, split: str) -> Any:
    try:
        return datasets.load_dataset(name, config, split=split)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"there is no hub data set {name} that you can read ({first_line(error)}); check the name, and log in "
            f"with `hf auth login` if it is private or gated"
        ) from error
    except ValueError as error:
        # the library's words, which name the splits that there are
        kind = SplitError if "Unknown split" in str(error) else ValueError
        raise kind(f"{source} cannot be opened: {first_line(error)}") from error
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ConnectionError(
            f"{source} cannot be fetched ({first_line(error)}); check the network, or set HF_DATASETS_OFFLINE=1 to "
            f"use what was fetched before"
        ) from error
