"""Labeled images in WebDataset shards."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from convit.data.locate import CLASSES_FILE, classes_file_beside, file_sha256
from convit.data.remote import shown
from convit.data.shards import Shard, read_shard
from convit.evaluation.labeled.digests import identity_of_files
from convit.evaluation.labeled.images import ClassName, LabeledImage, checked_places


class LabeledShards:
    """WebDataset shards: tar files of `<key>.jpg` (or another image suffix) and `<key>.cls` with the label's number.

    They are read through once here, so that a damaged shard or a wrong label is found before a model is loaded; remote
    ones are streamed for it. A `classes.json` beside the first shard (a list of names, or of objects with `index`,
    `name` and perhaps `wnid`) says what the labels mean.

    Args:
        shards: the files, or their URLs.

    Raises:
        ConnectionError: a remote shard cannot be read.
        FileNotFoundError: there is no such file.
        PermissionError: a shard may not be read.
        ValueError: a file is no tar archive or is cut off, a sample lacks image or label, a label is negative, or
            `classes.json` is no list of classes.
    """

    kind: str = "shards"

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = tuple(shards)
        self._sha256: dict[Shard, str] = {}  # of remote shards: what was read; files here are read when asked
        self._starts = [0]
        seen: set[int] = set()
        for shard in self.shards:
            labels = [label for _, _, label in read_shard(shard, note_sha256=self._note(shard))]
            seen.update(labels)
            self._starts.append(self._starts[-1] + len(labels))
        self.count = self._starts[-1]
        if not self.count:
            raise ValueError(
                f"{', '.join(map(shown, shards))} hold no sample; name shards with <key>.jpg and <key>.cls"
            )
        self.labels: Sequence[int] = sorted(seen)
        self.restricted = False
        self.competing: Sequence[int] = self.labels
        beside = classes_file_beside(self.shards[0])
        self.source = beside[0] if beside else f"{shown(self.shards[0])} without a {CLASSES_FILE}"
        self.classes: Sequence[ClassName] | None = parse_classes(beside[1], beside[0]) if beside else None

    def __iter__(self) -> Iterator[LabeledImage]:
        """Read the samples in the order of the files."""
        return self.take(range(self.count))

    def take(self, places: Sequence[int]) -> Iterator[LabeledImage]:
        """Read the samples at some ascending places; shards without one of them are left out, others read up to it.

        Raises:
            ValueError: a place is out of range or not above the one before it, or a shard has lost samples meanwhile.
        """
        return self._take(checked_places(places, self.count))

    def _take(self, places: Sequence[int]) -> Iterator[LabeledImage]:
        for shard, start, end in zip(self.shards, self._starts, self._starts[1:], strict=False):
            wanted = places[bisect_left(places, start) : bisect_left(places, end)]
            if not wanted:
                continue
            following, last = iter(wanted), wanted[-1]
            place = next(following)
            for number, (key, content, label) in enumerate(read_shard(shard), start=start):
                if number == place:
                    yield LabeledImage(key, content, label)
                    if number == last:
                        break
                    place = next(following)
            else:
                raise ValueError(
                    f"{shown(shard)} holds fewer samples than when it was opened; leave it alone meanwhile"
                )

    def _note(self, shard: Shard) -> Any:
        return lambda sha256: self._sha256.__setitem__(shard, sha256)

    def identity(self) -> dict[str, Any]:
        """Name and sha256 of each shard, and of them all: the shard's own where there is one, else over their list."""
        return identity_of_files(
            self.kind,
            [
                (shard.name, file_sha256(shard)) if isinstance(shard, Path) else (shown(shard), self._sha256[shard])
                for shard in self.shards
            ],
        )


def parse_classes(content: bytes, name: str) -> list[ClassName]:
    """What a `classes.json` says of each label, in label order.

    Args:
        content: a JSON list of names, or of objects with `index`, `name` and perhaps `wnid`.
        name: what messages call it.

    Raises:
        ValueError: it is neither, or the indices do not count from 0 without gaps.
    """
    try:
        rows: Any = json.loads(content)
        if not isinstance(rows, list) or not rows:
            raise ValueError("it holds no list")
        if all(isinstance(row, str) for row in rows):
            return [ClassName(row) for row in rows]
        rows.sort(key=lambda row: int(row["index"]))
        if [int(row["index"]) for row in rows] != list(range(len(rows))):
            raise ValueError("its indices do not count from 0 without gaps")
        return [ClassName(str(row["name"]), row.get("wnid")) for row in rows]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f'{name} is no list of classes ({error}); write ["cat", "dog"] or [{{"index": 0, "name": "cat"}}], '
            "or remove it where the labels are the model's own"
        ) from error
