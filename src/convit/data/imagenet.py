"""ImageNet-1k's validation images and their relatives, as they are distributed: ReaL, V2, A, R and Sketch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from convit.data.classes import ClassName
from convit.data.folders import FolderSamples, LabeledFiles
from convit.data.locate import Source, located
from convit.data.samples import Samples
from convit.data.splits import choose_sub_folder
from convit.data.validation_labels import (
    VALIDATION_NAME,
    find_beside,
    read_flat_labels,
    read_real_labels,
    validation_number,
)
from convit.images import find_images
from convit.images.listing import is_folder, list_folder
from convit.images.names import not_found
from convit.output.text import first_few
from convit.weights.labels import class_names, class_wnids

_SUBSETS = Path(__file__).with_name("imagenet_subsets.json")
_WNID = re.compile(r"n\d{8}")
_NUMBER = re.compile(r"0|[1-9]\d*")
_KAGGLE = "ILSVRC/Data/CLS-LOC/val"


@dataclass(frozen=True)
class Relative:
    """One of these data sets.

    Attributes:
        title: what it is called.
        images: how many images its release has.
        inside: where the images may lie in a folder that is named, besides in itself.
        layout: what is expected there.
        flat: whether the images may lie side by side, without sub-folders.
        by_number: whether sub-folders are named by class numbers, not by WordNet ids.
    """

    title: str
    images: int
    inside: tuple[str, ...]
    layout: str
    flat: bool = False
    by_number: bool = False


_BY_WNID = "sub-folders of images named by WordNet ids (n01440764)"
_VALIDATION = f"{_BY_WNID}, or the images {VALIDATION_NAME} and so on"
RELATIVES: Mapping[str, Relative] = {
    "imagenet": Relative("ImageNet-1k", 50_000, ("val", _KAGGLE), _VALIDATION, flat=True),
    "imagenet-real": Relative("ImageNet ReaL", 50_000, ("val", _KAGGLE), _VALIDATION, flat=True),
    "imagenet-v2": Relative("ImageNet V2", 10_000, (), 'sub-folders of images named "0" to "999"', by_number=True),
    "imagenet-a": Relative("ImageNet-A", 7_500, ("imagenet-a",), _BY_WNID),
    "imagenet-r": Relative("ImageNet-R", 30_000, ("imagenet-r",), _BY_WNID),
    "imagenet-sketch": Relative("ImageNet-Sketch", 50_889, ("sketch",), _BY_WNID),
}


def named_relative(data: object) -> tuple[str, Path] | None:
    """(name, folder) of "imagenet-v2:FOLDER" and its like; None for other data.

    >>> named_relative("imagenet-a:data")
    ('imagenet-a', PosixPath('data'))
    """
    name, colon, folder = str(data).partition(":")
    return (name, Path(folder)) if colon and name in RELATIVES and isinstance(data, str | Path) else None


def open_source(source: Source, *, root: str | Path | None, split: str | None, in_memory: bool) -> Samples:
    """Open "imagenet-v2:FOLDER" and its like; see `open_relative`."""
    relative = named_relative(source)
    assert relative is not None
    folder = Path(located(relative[1].expanduser(), root))  # no shell does that behind a colon
    return open_relative(relative[0], folder if split is None else choose_sub_folder(folder, split))


def open_relative(name: str, folder: Path) -> LabeledFiles:
    """Open ImageNet-1k's validation images, or one of its relatives, from a folder as its archive unpacks.

    Labels are ImageNet-1k's class numbers, whatever the folders are called.

    - imagenet (Russakovsky et al. 2015): the validation images in sub-folders by WordNet id; or side by side, with
      `LOC_val_solution.csv` (Kaggle), with `ILSVRC2012_validation_ground_truth.txt` and `meta.mat` (the devkit), or
      with WordNet ids at the end of their names (the hub's archive). The folder may also be one that holds them as
      `val` or, from Kaggle, as `ILSVRC/Data/CLS-LOC/val`.
    - imagenet-real (Beyer et al. 2020): the same images under their published names, and `real.json`.
    - imagenet-v2 (Recht et al. 2019): sub-folders "0" to "999", such as imagenetv2-matched-frequency-format-val has.
    - imagenet-a, imagenet-r (Hendrycks et al. 2021): sub-folders by WordNet id, of 200 classes, which alone compete.
    - imagenet-sketch (Wang et al. 2019): sub-folders by WordNet id.

    The files that say labels may lie beside the images or in one of the folders above. ReaL has several right labels
    for some images, and none for others, which do not count. `identity` says whether the release is there as a whole.

    Returns:
        The images, with `restricted` for A and R, and `accepted` for ReaL.

    Raises:
        FileNotFoundError: there is no such folder.
        ImportError: the devkit's labels are to be read, and scipy is not installed.
        ValueError: the folder is laid out otherwise; the message says what was expected.
    """
    relative = RELATIVES[name]
    place = _find_images(folder, relative)
    if name == "imagenet-real":
        return _open_real(place)
    subset, label_file = _subset(name), None
    if relative.by_number:
        names, labels = _read_sub_folders(place, relative, {str(number): number for number in range(1000)})
    elif _has_sub_folders(place, _WNID):
        known = class_wnids("imagenet1k")
        numbers = {wnid: number for number, wnid in enumerate(known) if wnid and (subset is None or wnid in subset)}
        names, labels = _read_sub_folders(place, relative, numbers)
    else:
        names = _list_flat(place)
        labels, label_file = read_flat_labels(place, names)
    found = _files(name, place, names, labels, label_file=label_file)
    if subset is not None:
        found.restricted = True
        found.competing = [number for number, wnid in enumerate(class_wnids("imagenet1k")) if wnid in subset]
    return found


def _open_real(place: Path) -> LabeledFiles:
    real = find_beside(place, ("real.json",))
    if real is None:
        raise ValueError(
            f"there is no real.json in {place} or a folder above it; put the one of github.com/google-research/"
            "reassessed-imagenet there"
        )
    sets = read_real_labels(real)
    by_wnid = _has_sub_folders(place, _WNID)
    names = FolderSamples(place).names if by_wnid else _list_flat(place)
    accepted: list[tuple[int, ...]] = []
    counted: list[str] = []
    for name in names:
        number = validation_number(name)
        if number is None or number > len(sets):
            raise ValueError(
                f"{place / name} is not among the {len(sets)} images of {real}, which goes by their names; name the "
                f"validation images as they are published, such as {VALIDATION_NAME}"
            )
        if sets[number - 1]:
            counted.append(name)
            accepted.append(sets[number - 1])
    if not counted:
        raise ValueError(f"{real} has no label for any of the {len(names)} images in {place}; fetch it again")
    labels = [each[0] for each in accepted]
    about = {"without_label": len(names) - len(counted)}
    return _files("imagenet-real", place, counted, labels, accepted=accepted, label_file=real, about=about)


def _files(name: str, place: Path, names: Sequence[str], labels: Sequence[int], **options: Any) -> LabeledFiles:
    relative, without_label = RELATIVES[name], options.pop("about", {})
    found = len(names) + sum(without_label.values())
    about = {"dataset": name, "images_of_release": relative.images, "complete": found == relative.images}
    source = f"{relative.title} in {place}"
    return LabeledFiles(
        place, names, labels, classes=_classes(), source=source, about={**about, **without_label}, **options
    )


def _find_images(folder: Path, relative: Relative) -> Path:
    if not folder.is_dir():
        raise not_found(folder, f"there is no folder {folder}; name the one that {relative.title} was unpacked to")
    pattern = _NUMBER if relative.by_number else _WNID
    for place in (folder, *(folder / name for name in relative.inside)):
        if not place.is_dir():
            continue
        flat = relative.flat and any(validation_number(child.name) for child in list_folder(place))
        if flat or _has_sub_folders(place, pattern):
            return place
    raise ValueError(f"{folder} is not laid out as {relative.title}; expected are {relative.layout}")


def _has_sub_folders(folder: Path, pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(child.name) and is_folder(child) for child in list_folder(folder))


def _read_sub_folders(
    place: Path, relative: Relative, numbers: Mapping[str, int]
) -> tuple[Sequence[str], Sequence[int]]:
    """(paths of the images, their labels); `numbers` are the labels by name of the sub-folder."""
    samples = FolderSamples(place)
    folders = samples.class_names or ()
    unknown = [name for name in folders if name not in numbers]
    if unknown:
        raise ValueError(
            f"{place} has {first_few(unknown)}, not among the {len(numbers)} classes of "
            f"{relative.title}; expected are {relative.layout}, and no other sub-folders"
        )
    return samples.names, [numbers[folders[label]] for label in samples.labels]


def _list_flat(place: Path) -> list[str]:
    names = [path.name for path in find_images(place, recursive=False, or_none=True)]
    foreign = next((name for name in names if validation_number(name) is None), None)
    if foreign is not None:
        raise ValueError(
            f"{place / foreign} is not a validation image of ImageNet-1k, which are called {VALIDATION_NAME} and so "
            "on; move it elsewhere"
        )
    return names


@cache
def _classes() -> tuple[ClassName, ...]:
    pairs = zip(class_names("imagenet1k"), class_wnids("imagenet1k"), strict=True)
    return tuple(ClassName(name, wnid) for name, wnid in pairs)


@cache
def _subset(name: str) -> frozenset[str] | None:
    """The WordNet ids of the classes that a relative consists of; None for all of ImageNet-1k's."""
    found = json.loads(_SUBSETS.read_text(encoding="utf-8")).get(name)
    return None if found is None else frozenset(found["wnids"])
