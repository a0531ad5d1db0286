"""An exported folder as a model: read, checked, and run by ONNX Runtime or OpenVINO; imports no torch.

`convit export` writes such a folder: a model file, and `config.json`, which holds timm's description of the model with
one more key, "export", that says what the file takes and gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convit.images.names import given_path
from convit.inference.options import RunOptions
from convit.inference.sessions import start_session
from convit.output.files import hash_file
from convit.output.text import short
from convit.transforms.evaluation import EvaluationTransform
from convit.transforms.settings import TransformSettings, as_height_width
from convit.weights.labels import temperature_of

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8

CONFIG_FILE = "config.json"
_OUTPUT_OF = {
    "logits": "logits",
    "pooled": "embedding",
    "pre_logits": "embedding",
    "tokens": "tokens",
    "patches": "tokens",
}


@dataclass(frozen=True)
class Export:
    """What an exported file takes and gives: the key "export" of `config.json`.

    Attributes:
        format: as `--to` takes it.
        file: name of the model file, beside `config.json`.
        sha256: of each file of the model, by name.
        precision: "fp32", "fp16", "bf16" or "int8".
        input_name: of the images.
        takes_uint8: whether the file takes uint8 pixel values and scales them itself; else it takes normalized floats.
        channels_last: whether it takes (batch, height, width, channels); else (batch, channels, height, width).
        batch: images at a time; None for any number.
        size: (height, width), pixels; None for any that patches tile.
        outputs: what it gives: "logits", "embedding", "tokens".
        patch_size: side of a square patch, pixels.
        temperature: what logits are divided by before the softmax.
    """

    format: str
    file: str
    sha256: Mapping[str, str]
    precision: str
    input_name: str
    takes_uint8: bool
    channels_last: bool
    batch: int | None
    size: tuple[int, int] | None
    outputs: tuple[str, ...]
    patch_size: int
    temperature: float

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Export:
        """Read it from parsed JSON; raises `KeyError`, `TypeError` or `ValueError` if it is malformed."""
        given = values["input"]
        temperature = values.get("temperature")
        found = cls(
            format=str(values["format"]),
            file=str(values["file"]),
            sha256={str(name): str(value) for name, value in values["sha256"].items()},
            precision=str(values["precision"]),
            input_name=str(given["name"]),
            takes_uint8={"uint8": True, "float32": False}[given["dtype"]],
            channels_last={"NHWC": True, "NCHW": False}[given["layout"]],
            batch=None if given["batch"] is None else _whole(given["batch"]),
            size=None if given["height"] is None else (_whole(given["height"]), _whole(given["width"])),
            outputs=tuple(map(str, values["outputs"])),
            patch_size=_whole(values["patch_size"]),
            temperature=1.0 if temperature is None else temperature_of({"temperature": temperature}),
        )
        if found.file not in found.sha256 or any(Path(name).name != name for name in found.sha256):
            raise ValueError(f"sha256 names {short(list(found.sha256))}, but must name the files beside it")
        return found


class ExportedModel:
    """A model in an exported folder, run by another runtime than PyTorch, in the place of a `LoadedModel`.

    Args:
        folder: written by `convit export`.
        options: how to run. The folder has its precision; device and compile are PyTorch's to choose.
        threads: to compute with; None: what OMP_NUM_THREADS says, else the runtime's own choice.

    Attributes:
        config: what `config.json` holds.
        export, outputs: what the file takes and gives.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it was not written by `convit export`, a file in it is damaged or of another origin, its runtime
            cannot load it, or it cannot do what the options ask for.
        ImportError: the runtime is not installed.
    """

    at_once = 1  # its runtime shares the cores out by itself
    is_steady = False  # its runtime computes in one way as it is
    device = "cpu"

    def __init__(self, folder: str | Path, options: RunOptions | None = None, *, threads: int | None = None) -> None:
        options = options or RunOptions()
        self.folder = Path(folder).expanduser()
        self.config, self.export, transform = read_config(self.folder)
        self.outputs = self.export.outputs
        self.name = self.folder.resolve().name
        self._check_options(options)
        size = self._size(transform, options.img_size)
        self.settings = TransformSettings.from_card(
            transform, input_size=(transform["input_size"][0], *size), crop_pct=options.crop_pct
        )
        self.precision = self.export.precision
        self.batch_size = self.export.batch or options.batch_size or 8
        self.num_classes = self.config["num_classes"] if "logits" in self.outputs else 0
        self.pretrained_cfg: dict[str, Any] = {
            "architecture": self.config["export"].get("architecture"),
            **self.settings.to_dict(),
            "num_classes": self.num_classes,
            "label_names": self.config.get("label_names"),
            "calibration": {"temperature": self.export.temperature},
        }
        self._normalize = EvaluationTransform(self.settings).normalize
        _check_files(self.folder, self.export.sha256)
        export = self.export
        self._session = start_session(
            self.folder / export.file, export.format, export.precision, export.input_name, export.outputs, threads
        )

    def pool(self) -> AbstractContextManager[None]:
        """Nothing, since `at_once` is 1."""
        return nullcontext()

    @property
    def model(self) -> ExportedModel:
        """Itself: it has what a module's readers ask for."""
        return self

    def check(self, kind: str) -> None:
        """Refuse a kind of output that the file does not give."""
        needed = _OUTPUT_OF.get(kind)
        if needed not in self.outputs:
            what = "the tokens between blocks" if needed is None else needed
            raise ValueError(
                f"{self.name} gives {', '.join(self.outputs)}, but this needs {what}; "
                f"{'run the weights it was made from' if needed is None else 'export it again with that output'}"
            )

    def compute(
        self, pixels: Sequence[UInt8[np.ndarray, "height width channels"]], wanted: str
    ) -> Float32[np.ndarray, "batch ..."]:
        """Compute logits or embeddings; see `LoadedModel.compute`."""
        name = _OUTPUT_OF[wanted]
        found = self.run(np.stack(pixels), (name,))[name]
        return found[:, 1:] if wanted == "patches" else found

    def run(
        self, pixels: UInt8[np.ndarray, "batch height width channels"], outputs: Sequence[str] | None = None
    ) -> dict[str, Float32[np.ndarray, "batch ..."]]:
        """Compute outputs of a batch of any length.

        Args:
            pixels: uint8 pixel values, cropped to a size that the file takes.
            outputs: names of those that are wanted; None for all.

        Raises:
            ValueError: the file does not take images of this size, or has other classes than `config.json` says.
        """
        self._check_size(*pixels.shape[1:3])
        names = list(outputs or self.outputs)
        images = pixels if self.export.takes_uint8 else self._normalize(pixels)
        if self.export.takes_uint8 and not self.export.channels_last:
            images = np.moveaxis(images, -1, 1)
        elif self.export.channels_last and not self.export.takes_uint8:
            images = np.moveaxis(images, 1, -1)
        images, step = np.ascontiguousarray(images), self.export.batch or len(images)
        parts = [self._session(images[start : start + step], names) for start in range(0, len(images), step)]
        found = {
            name: np.concatenate(arrays).astype(np.float32, copy=False)
            for name, arrays in zip(names, zip(*parts, strict=True), strict=True)
        }
        if "logits" in found and found["logits"].shape[1] != self.num_classes:
            raise ValueError(
                f"{self.folder / self.export.file} gives {found['logits'].shape[1]} logits, but {CONFIG_FILE} says "
                f"{self.num_classes} classes; export again"
            )
        return found

    def _check_options(self, options: RunOptions) -> None:
        possible = {
            "device": ("auto", "cpu"),
            "precision": ("auto", "fastest", self.export.precision),
            "compile": (False,),
            "batch_size": (None, self.export.batch or options.batch_size),
        }
        for name, allowed in possible.items():
            if (given := getattr(options, name)) not in allowed and str(given) not in allowed:  # a device of torch's
                taken = " or ".join(str(each) for each in allowed if each is not None)
                remedy = "leave it out, or export in it" if name == "precision" else "leave it out"
                raise ValueError(f"{name} is {given}, but the exported model {self.folder} takes {taken}; {remedy}")

    def _size(self, transform: Mapping[str, Any], img_size: int | tuple[int, int] | None) -> tuple[int, int]:
        """(height, width) to run at, as asked for or as exported."""
        size = as_height_width(img_size or self.export.size or transform["input_size"])
        self._check_size(*size)
        return size

    def _check_size(self, height: int, width: int) -> None:
        size, side = self.export.size, self.export.patch_size
        if size is not None and (height, width) != size:
            raise ValueError(
                f"images are {height} x {width} pixels (height x width), but {self.folder} takes {size[0]} x {size[1]} "
                f"only; export it again with --size {height}x{width}"
            )
        # the file itself would drop the edges, or repeat them, without a word
        if height < side or width < side or height % side or width % side:
            raise ValueError(
                f"images are {height} x {width} pixels (height x width), but {self.folder} takes multiples of {side}"
            )


def exported_folder(name: str) -> Path | None:
    """The folder that a name stands for where that is an exported one; a damaged `config.json` counts as one.

    Raises:
        ValueError: it is a file in such a folder.
    """
    folder = given_path(name).expanduser()
    if folder.is_file():
        if exported_folder(str(folder.parent)) is not None:
            raise ValueError(f"{name} is a file of an exported folder, which is taken whole; name {folder.parent}")
        return None
    try:
        content = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except OSError:
        return None
    except (ValueError, RecursionError):
        return folder
    return None if isinstance(content, dict) and "export" not in content else folder


def read_config(folder: Path) -> tuple[dict[str, Any], Export, dict[str, Any]]:
    """What `config.json` holds, and of that what the file takes and gives, and how images are prepared.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it was not written by `convit export`, or is damaged.
    """
    path = folder / CONFIG_FILE
    if folder.is_file():
        raise ValueError(f"{folder} is a file, but an exported folder is taken whole; name {folder.parent}")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; check the path")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise TypeError(f"it holds a {type(config).__name__}, not an object")
        found = Export.of(config["export"])
        transform: dict[str, Any] = config["export"]["transform"]
        TransformSettings.from_card(transform)
        transform["input_size"][0]
        if "logits" in found.outputs:
            names, count = config.get("label_names"), _whole(config["num_classes"])
            if names and not (isinstance(names, list) and len(names) == count):
                raise ValueError(f"label_names is {short(names)}, but must list {count} classes")
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {CONFIG_FILE}; name a folder that `convit export` wrote") from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is not as `convit export` writes it ({problem}); export again") from error
    return config, found, transform


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 < value < 2**24:
        raise ValueError(f"{short(value)} is not a number of pixels, images or classes")
    return value


def _check_files(folder: Path, expected: Mapping[str, str]) -> None:
    for name, sha256 in expected.items():
        try:
            found = hash_file(folder / name)
        except FileNotFoundError:
            raise FileNotFoundError(f"{folder / name} is missing; copy the whole folder, or export again") from None
        if found != sha256:
            raise ValueError(
                f"{folder / name} is damaged or was replaced: its sha256 is {found[:12]}…, but {CONFIG_FILE} says "
                f"{short(sha256[:12])}…; copy it again, or export again"
            )
