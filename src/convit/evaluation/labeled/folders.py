"""Labeled images in files of their own: a folder with a sub-folder per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from convit.data.folders import FolderSamples
from convit.data.locate import file_sha256
from convit.evaluation.labeled.digests import ContentDigests, sha256_of_lines
from convit.evaluation.labeled.images import ClassName, IndexedImages, LabeledImage


class LabeledFiles(IndexedImages):
    """Images in files, with labels that come from elsewhere.

    Args:
        folder: what the names start from.
        names: path of each image within the folder, with forward slashes.
        labels: its label.
        classes: what each label means, by number.
        source: what names the classes, for messages.
        accepted: all labels that count as right for each image, where there are several.
        label_file: the file that the labels were read from, where it is not the paths that say them.
        about: what `identity` tells besides.
    """

    kind = "folder"

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        labels: Sequence[int],
        *,
        classes: Sequence[ClassName],
        source: str,
        accepted: Sequence[tuple[int, ...]] = (),
        label_file: Path | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(labels, classes, source)
        self.folder = folder
        if accepted:
            self.labels: Sequence[int] = sorted(set(chain.from_iterable(accepted)))
        self._names, self._labels, self._accepted = names, labels, accepted
        self._label_file, self._about = label_file, dict(about or {})
        self._digests = ContentDigests(self.count)

    def _image(self, place: int) -> LabeledImage:
        """One image; a file that cannot be read comes as its path: whoever opens it says why, as of a damaged one."""
        name = self._names[place]
        content = self._read(place)
        self._digests.note(place, content)
        accepted = self._accepted[place] if self._accepted else ()
        return LabeledImage(name, self.folder / name if content is None else content, self._labels[place], accepted)

    def _read(self, place: int) -> bytes | None:
        try:
            return (self.folder / self._names[place]).read_bytes()
        except OSError:
            return None

    def identity(self) -> dict[str, Any]:
        """The folder's name, and one sha256 over the lines "sha256  path" of all its images in reading order.

        Where a file says the labels, its line stands behind these.
        """
        found: dict[str, Any] = {"kind": self.kind, "name": self.folder.resolve().name, **self._about}
        lines = self._digests.lines(self._names, self._read)
        if self._label_file is not None:
            labels = {"name": self._label_file.name, "sha256": file_sha256(self._label_file)}
            found["labels"] = labels
            lines = chain(lines, [f"{labels['sha256']}  {labels['name']}\n".encode("utf-8", "surrogateescape")])
        return {**found, "sha256": sha256_of_lines(lines)}


class LabeledFolder(LabeledFiles):
    """A folder with one sub-folder per class; images may lie deeper inside these.

    Args:
        folder: the folder.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no class sub-folder, one of them holds no image, or an image lies in none of them.
    """

    def __init__(self, folder: Path) -> None:
        samples = FolderSamples(folder)
        names = relative_names(folder, samples.names)
        classes = [ClassName(name) for name in samples.classes]
        super().__init__(folder, names, samples.labels, classes=classes, source=f"the sub-folders of {folder}")


def relative_names(folder: Path, paths: Sequence[str]) -> list[str]:
    """Paths as they are within a folder, with forward slashes."""
    return [Path(path).relative_to(folder).as_posix() for path in paths]
