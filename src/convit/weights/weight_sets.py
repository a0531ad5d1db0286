"""The table of pretrained weights: where each comes from, how images are prepared, how good it is, who says so.

Needs no torch, so that the command line can show it at once.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from convit.images.names import given_path
from convit.model.config import ConViTConfig
from convit.model.variants import VARIANTS
from convit.output.text import read_json
from convit.transforms.settings import TransformSettings
from convit.weights.header import read_metadata
from convit.weights.labels import LABEL_SETS, class_names
from convit.weights.published import PUBLISHED, Published

BUNDLED_FOLDER = Path(__file__).with_name("bundled")
BUNDLED_NAMES = ("convit_mini_patch8_64.tiny_imagenet", "convit_nano_patch4_32.cifar10")


@dataclass(frozen=True)
class WeightSet:
    """Weights that can be had by name.

    Attributes:
        name: architecture and tag, e.g. "convit_base.fb_in1k".
        architecture: the variant that the weights belong to.
        tag: what tells weight sets of one architecture apart.
        source: "bundled" (ships in the package) or "hub" (fetched once, then cached).
        num_classes: width of the head.
        preprocessing: how images were prepared when the weights were measured, and at which size.
        hub_repo: repository on the Hugging Face hub, tried first.
        url: the authors' own file, tried where the hub does not deliver.
        file: the bundled file.
        sha256: what the file must hash to, where that is known; for others the hub states it, or the first download.
        max_bytes: a download with more is refused: twice what the parameters take in fp32.
        classes: label set of the head, see `class_names`; "" where it is none of those.
        top1: accuracy in percent, or None if it was not measured.
        top5: likewise for the five best classes.
        measured_by: who measured those two, on what.
        published: what others published of these weights, on ImageNet and its relatives.
        license: terms of the weights.
        trained_on: the training images, and their terms where they matter.
        origin: who trained them.
    """

    name: str
    architecture: str
    tag: str
    source: Literal["bundled", "hub"]
    num_classes: int
    preprocessing: TransformSettings
    hub_repo: str | None = None
    url: str | None = None
    file: Path | None = None
    sha256: str | None = None
    max_bytes: int = 2**31
    classes: str = ""
    top1: float | None = None
    top5: float | None = None
    measured_by: str = ""
    published: tuple[Published, ...] = ()
    license: str = ""
    trained_on: str = ""
    origin: str = ""

    @property
    def input_size(self) -> tuple[int, int, int]:
        """(channels, height, width) that the weights were trained and measured at."""
        return self.preprocessing.input_size

    @property
    def config(self) -> ConViTConfig:
        """The architecture's configuration, with the classes, channels and image size of the weights."""
        channels, height, width = self.input_size
        return VARIANTS[self.architecture].config.replace(
            num_classes=self.num_classes, in_chans=channels, img_size=(height, width)
        )

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the classes in index order, or None if the label set is not known here."""
        return class_names(self.classes) if self.classes else None


_PARAMETERS = {"tiny": 5.71e6, "small": 27.78e6, "base": 86.54e6}


def _released(size: str) -> WeightSet:
    name = f"convit_{size}.fb_in1k"
    published = PUBLISHED[name]
    imagenet = next(each for each in published if each.data == "imagenet")
    return WeightSet(
        name=name,
        architecture=f"convit_{size}",
        tag="fb_in1k",
        source="hub",
        num_classes=1000,
        preprocessing=TransformSettings(),
        hub_repo=f"timm/{name}",
        url=f"https://dl.fbaipublicfiles.com/convit/convit_{size}.pth",
        max_bytes=int(8 * _PARAMETERS[size]),
        classes="imagenet1k",
        top1=imagenet.top1,
        top5=imagenet.top5,
        measured_by="timm's result tables, ImageNet-1k validation",
        published=published,
        license="Apache-2.0",
        trained_on="ImageNet-1k (ILSVRC 2012)",
        origin="the ConViT authors (arXiv 2103.10697), published by them and on timm's hub",
    )


_RELEASED = {weight_set.name: weight_set for weight_set in map(_released, _PARAMETERS)}


def bundled_weight_set(name: str, folder: Path = BUNDLED_FOLDER) -> WeightSet:
    """Describe weights that ship in the package from `<name>.safetensors` and what `convit evaluate` wrote beside it.

    Raises:
        FileNotFoundError: the weights are not there.
        ValueError: one of the files is damaged.
    """
    file = folder / f"{name}.safetensors"
    if not file.is_file():
        raise FileNotFoundError(f"the bundled weights {name} are missing from this installation; install convit again")
    metadata = read_metadata(file)
    measured = folder / f"{name}.json"
    report = read_json(measured, "write it again with `convit evaluate`") if measured.is_file() else {}
    architecture, _, tag = name.partition(".")
    try:
        return WeightSet(
            name=name,
            architecture=architecture,
            tag=tag,
            source="bundled",
            num_classes=len(metadata["classes"]),
            preprocessing=TransformSettings.from_card(metadata, input_size=tuple(metadata["input_size"])),
            file=file,
            sha256=report.get("weights_sha256"),
            classes=next((each for each in LABEL_SETS if list(class_names(each)) == list(metadata["classes"])), ""),
            top1=report.get("top1"),
            top5=report.get("top5"),
            measured_by=_measurement(report),
            license=str(metadata.get("license", "")),
            trained_on=str(metadata.get("trained_on", "")),
            origin=str(metadata.get("origin", "trained by this project")),
        )
    except KeyError as error:
        raise ValueError(f"the description inside {file} lacks {error}; install convit again") from error


@cache
def all_weight_sets() -> dict[str, WeightSet]:
    """Every weight set by name, without bundled ones whose files are missing."""
    present = (name for name in BUNDLED_NAMES if (BUNDLED_FOLDER / f"{name}.safetensors").is_file())
    return _RELEASED | {name: bundled_weight_set(name, BUNDLED_FOLDER) for name in present}


class _Table(Mapping[str, WeightSet]):
    """The weight sets by name. Bundled files are read when first asked for, since nothing may happen at import."""

    def __getitem__(self, name: str) -> WeightSet:
        return _RELEASED[name] if name in _RELEASED else all_weight_sets()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(all_weight_sets())

    def __len__(self) -> int:
        return len(all_weight_sets())


WEIGHT_SETS: Mapping[str, WeightSet] = _Table()


def default_weight_set(architecture: str) -> WeightSet | None:
    """Return the weight set that a bare architecture name stands for: its first one, or None if it has none."""
    return next((each for each in WEIGHT_SETS.values() if each.architecture == architecture), None)


def split_source(name: str) -> tuple[str, str]:
    """Split a model's name into its source ("hf-hub", "local-dir", or "" for the table) and what is named there.

    >>> split_source("HF-HUB:timm/convit_tiny.fb_in1k"), split_source("convit_tiny")
    (('hf-hub', 'timm/convit_tiny.fb_in1k'), ('', 'convit_tiny'))
    """
    prefix, _, rest = name.partition(":")
    source = {"hf_hub": "hf-hub"}.get(prefix.lower(), prefix.lower())
    return (source, rest) if source in ("hf-hub", "local-dir") else ("", name)


def local_weights(name: str) -> Path | None:
    """The local file or folder that a name of weights refers to; None if it is another kind of name, or missing.

    Published names come first: a file or folder with the same name is given as "./convit_tiny".
    """
    path = given_path(name).expanduser()
    return None if name in VARIANTS or name in WEIGHT_SETS or split_source(name)[0] or not path.exists() else path


def check_model_name(name: str) -> None:
    """Refuse a name that is no variant's or weight set's, without torch; what names a hub or a folder passes.

    Raises:
        ValueError: there is no such model, or there are no such weights; the message names the closest.
        FileNotFoundError: as `find_weight_set`.
    """
    if split_source(name)[0]:
        return
    architecture, _, tag = name.partition(".")
    if architecture not in VARIANTS:
        if os.path.lexists(name):
            raise ValueError(
                f"there is no model {name!r}, but a file or folder with that name exists; to load weights from it, use "
                f"--weights {name} (in Python, weights= or checkpoint_path=)"
            )
        hint = f"; a hub repository is named hf-hub:{name}, a folder local-dir:{name}" if "/" in name else ""
        raise ValueError(f"there is no model {name!r}; {closest(name, [*VARIANTS, *WEIGHT_SETS])}{hint}")
    if tag:
        find_weight_set(name)


def find_weight_set(name: str) -> WeightSet:
    """Return the weight set that is called "convit_base.fb_in1k", or "convit_base" for the default of its architecture.

    Raises:
        ValueError: there are no such weights; the message names the closest that there are.
        FileNotFoundError: they ship in the package, but this installation lost them.

    >>> find_weight_set("convit_tiny").hub_repo
    'timm/convit_tiny.fb_in1k'
    """
    if name in WEIGHT_SETS:
        return WEIGHT_SETS[name]
    if (weight_set := default_weight_set(name)) is not None:
        return weight_set
    if name in BUNDLED_NAMES:
        return bundled_weight_set(name, BUNDLED_FOLDER)  # raises: the file is missing
    if name.partition(".")[0].endswith("_plus"):
        raise ValueError(
            f"{name} has no pretrained weights: the authors released convit_tiny, convit_small and convit_base only; "
            "use one of those, pretrained=False, or a file of your own (checkpoint_path, --weights FILE)"
        )
    raise ValueError(f"there are no weights {name!r}; {closest(name, WEIGHT_SETS)}")


def closest(name: str, names: Mapping[str, Any] | list[str]) -> str:
    """Say which names come closest to a wrong one, for the end of an error message.

    >>> closest("convit_bas", ["convit_base", "convit_tiny"])
    "did you mean 'convit_base' or 'convit_tiny'?"
    """
    matches = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
    if not matches:
        return f"there are {', '.join(names)}"
    return f"did you mean {' or '.join(repr(match) for match in matches)}?"


def _measurement(report: Mapping[str, Any]) -> str:
    if "top1" not in report:
        return ""
    shard = str(report.get("data_sha256", ""))
    return f"`convit evaluate` on {report.get('count', '?')} images" + (f" (data sha256 {shard[:12]})" if shard else "")
