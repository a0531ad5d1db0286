"""Image folders: one sub-folder per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from convit.images import find_images, open_image
from convit.images.listing import is_folder, list_folder


class FolderSamples:
    """An image folder: one sub-folder per class, classes numbered in sorted order, images at any depth.

    Args:
        folder: the folder with the class sub-folders.
        classes: the class names in the model's order; the sub-folders' names must be among them. Without it they are
            the sub-folders, sorted.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it has no class sub-folder, an image lies in no class, a class has no image, or a
            sub-folder is no known class.
    """

    def __init__(self, folder: str | Path, classes: Sequence[str] | None = None) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(
                f"there is no folder {self.folder}; give the folder whose sub-folders are the classes"
            )
        found = [child.name for child in list_folder(self.folder) if is_folder(child)]
        if not found:
            raise ValueError(
                f"{self.folder} has no class sub-folders; put the images of each class into a folder of its own"
            )
        self.classes = tuple(classes) if classes is not None else tuple(found)
        unknown = next((name for name in found if name not in self.classes), None)
        if unknown is not None:
            raise ValueError(
                f"the folder {self.folder / unknown} is none of the {len(self.classes)} known classes; rename or "
                "remove it"
            )
        images = {name: [] for name in found}
        loose: list[str] = []
        for path in find_images(self.folder, or_none=True):
            inside = path.relative_to(self.folder).parts
            (images[inside[0]] if len(inside) > 1 else loose).append(str(path))
        if loose:
            raise ValueError(
                f"images in {self.folder} are in no class ({Path(loose[0]).name}, {len(loose)} in all); put each into "
                "the sub-folder of its class, or move it out"
            )
        self.labels: list[int] = []
        self.names: list[str] = []
        for name, paths in images.items():
            if not paths:
                raise ValueError(f"the class folder {self.folder / name} holds no image; fill it or remove it")
            self.labels.extend([self.classes.index(name)] * len(paths))
            self.names.extend(paths)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """The decoded RGB image.

        Raises:
            ValueError: the image cannot be read.
        """
        return open_image(self.names[index])
