"""What tells two data sets apart: kept beside a run, so that its result can be traced to its data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from convit.data.cifar import parse_cifar
from convit.data.hub import HubSamples
from convit.data.locate import Source, file_sha256, find_parquet, find_shards, form_of, located
from convit.data.remote import remote_identity, shown
from convit.images import find_images


def fingerprint(path: Source, root: str | Path | None = None) -> dict[str, str]:
    """What the data at `path` are, by name.

    Args:
        path: all forms that `convit.data.open_dataset` takes.
        root: folder or URL that a relative `path` starts from.

    Returns:
        Shards, Parquet and CIFAR files: name → sha256. Remote ones: URL → ETag (or what the server has instead) and
        size; nothing is fetched. An image folder: its name → number of images and one sha256 over their sorted relative
        paths and sizes, so that no image is read. A hub data set: its name → the fingerprint of the `datasets` library.

    Raises:
        ConnectionError: a server cannot be reached.
        FileNotFoundError: there is nothing at `path`.
        ImportError: a package that this form needs is not installed.
        ValueError: `path` is written in no known way.
    """
    match form_of(path, root):
        case "shards":
            return _files(find_shards(path, root))
        case "parquet":
            return _files(find_parquet(path, root))
        case "hub":
            return {str(path): HubSamples(str(path)).fingerprint}
        case "cifar":
            _, folder, _ = parse_cifar(str(path), root)
            if not folder.is_dir():
                raise FileNotFoundError(f"there is no folder {folder}; give the one with CIFAR's Python files")
            return _files(sorted(file for file in folder.iterdir() if file.is_file()))
        case "folder":
            assert isinstance(path, (str, Path))
            return {str(path): _folder(Path(located(path, root)))}


def _files(files: Sequence[Path | str]) -> dict[str, str]:
    names = [Path(file).name for file in files]
    short = len(set(names)) == len(names)
    return {
        file.name if short and isinstance(file, Path) else shown(file): (
            file_sha256(file) if isinstance(file, Path) else remote_identity(file)
        )
        for file in files
    }


def _folder(folder: Path) -> str:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give the folder whose sub-folders are the classes")
    listing = hashlib.sha256()
    images = find_images(folder, or_none=True)
    for path in images:
        size = path.stat().st_size if path.exists() else "missing"
        listing.update(f"{size}  {path.relative_to(folder).as_posix()}\n".encode("utf-8", "surrogateescape"))
    return f"{len(images)} images, names and sizes {listing.hexdigest()}"
