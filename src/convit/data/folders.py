"""Image folders: one sub-folder per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from convit.data.samples import IMAGE_SUFFIXES, decode_image


class FolderSamples:
    """An image folder: one sub-folder per class, classes numbered in sorted order, images at any depth.

    Args:
        folder: the folder with the class sub-folders.
        classes: the class names in the model's order; the sub-folders' names must be among them. Without it they are
            the sub-folders, sorted.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no class sub-folder, a class has no image, or a sub-folder is no known class.
    """

    def __init__(self, folder: str | Path, classes: Sequence[str] | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"there is no folder {self.folder}; give the folder whose sub-folders are the classes"
            )
        found = sorted(
            child.name for child in self.folder.iterdir() if child.is_dir() and not child.name.startswith(".")
        )
        if not found:
            raise ValueError(
                f"{self.folder} has no class sub-folders; put the images of each class into a folder of its own"
            )
        self.classes = tuple(classes) if classes is not None else tuple(found)
        self.labels: list[int] = []
        self.names: list[str] = []
        for name in found:
            if name not in self.classes:
                raise ValueError(
                    f"the folder {self.folder / name} is none of the {len(self.classes)} known classes; rename "
                    f"or remove it"
                )
            images = [
                path
                for path in sorted((self.folder / name).rglob("*"))
                if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
            ]
            if not images:
                raise ValueError(f"the class folder {self.folder / name} holds no image; fill it or remove it")
            self.labels.extend([self.classes.index(name)] * len(images))
            self.names.extend(str(path) for path in images)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """The decoded RGB image.

        Raises:
            ValueError: the image cannot be read.
        """
        name = self.names[index]
        try:
            data = Path(name).read_bytes()
        except OSError as error:
            raise ValueError(
                f"sample {name!r} cannot be opened ({error.strerror}); remove it or put it back"
            ) from error
        return decode_image(data, name)
