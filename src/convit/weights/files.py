"""Weight files on this machine: read a file or a folder, write a file that describes itself."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import pickle
import warnings
import zipfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from convit.images.names import not_found
from convit.output.files import replace_file
from convit.output.text import first_few, short
from convit.weights.header import METADATA_KEY, read_metadata
from convit.weights.timm_config import CONFIG_FILE, MODEL_FILE, accompany, read_hub_config

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from convit.model import ConViT

_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
READABLE = (".safetensors", *_PICKLES)
_HUB_FILES = (MODEL_FILE, "pytorch_model.bin")
_PREFERRED = ("weights.safetensors", *_HUB_FILES)  # a run's first
# What training scripts wrap around the weights; averaged weights first, as in timm.
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_ANCHOR = "cls_token"  # a name that every ConViT has once

_log = logging.getLogger(__name__)


def load_weights(path: str | Path, *, alone: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights from a file or a folder of this machine.

    Pickles are read with PyTorch's restricted reader, which cannot run code. What training scripts put around a model
    is taken off: wrappers ("model", "state_dict" and their averages) and prefixes ("module.", "net." …); what stands
    beside it ("n_averaged", "criterion.…") is left out, and named in a warning.

    Args:
        path: a safetensors file, a PyTorch file (.pth, .pt, .bin, .ckpt, .tar), or a folder with one of them; a hub
            `config.json` is read with a folder, and with a file that has the hub's name for it.
        alone: reads no `config.json` beside a file.

    Returns:
        The tensors by name, on the CPU, and the description of the model, checked against them: what `save_weights`
        wrote, or what `config.json` says in the same form; empty if there is neither.

    Raises:
        FileNotFoundError: there is no such file, or the folder holds no weights.
        ValueError: the file is damaged, of another type, or holds something else than tensors by name.
        PermissionError: the file may not be read.
    """
    file = weights_file(path)
    if file.suffix.lower() not in READABLE:
        raise ValueError(f"{file} is not a weight file that can be read here; {_kinds(file.parent)}")
    if file.suffix.lower() == ".safetensors":
        content, metadata = _read_safetensors(file), read_metadata(file)
    else:
        content, metadata = _read_pickle(file), {}
    tensors = tensors_in(content, file)
    config = file.with_name(CONFIG_FILE)
    belongs = file != Path(path).expanduser() or (file.name in _HUB_FILES and not alone)
    if not metadata and belongs and config.is_file():
        metadata, file = read_hub_config(config), config
    if metadata:
        check_metadata(metadata, tensors, file)
    return tensors, metadata


def save_weights(
    path: str | Path, model: ConViT, metadata: Mapping[str, Any] | None = None, *, dtype: torch.dtype | None = None
) -> None:
    """Write a model as a safetensors file that `load_model` and `create_model(checkpoint_path=…)` rebuild it from.

    The file appears whole or not at all; an existing one is replaced. A folder gets `model.safetensors` and timm's
    `config.json`, so that timm (`local-dir:FOLDER`) and transformers' Auto classes read it too. Where timm's ConViT
    cannot compute the model, there is no `config.json`, and a warning says why.

    Args:
        path: a file that ends in .safetensors, or a folder: one that is there, has no suffix, or ends in "/".
        model: its configuration and the preprocessing and classes in its `pretrained_cfg` go into the file.
        metadata: more to say of it, or to say instead: trained_on, license, classes (names in index order) …
        dtype: stores floating-point tensors so, e.g. `torch.float16` at half the size; None keeps each as it is.

    Raises:
        ValueError: the path is that of another kind of file, the metadata says of the model what none has, or the model
            has other weights than a ConViT, as an adapted one.
        TypeError: the metadata holds something that JSON cannot, or the model is no ConViT, as an optimized one.
        PermissionError: writing is not allowed there.
        OSError: the disk is full.
    """
    from convit.weights.card import check_description, describe

    file = _file_to_write(path)
    plain = cast("ConViT", getattr(model, "_orig_mod", model))  # torch.compile wraps the model
    tensors = tensors_to_write(plain, dtype)
    _check_names(plain, tensors)
    try:
        text = json.dumps({**describe(plain), **(metadata or {})})
    except TypeError as error:
        raise TypeError(
            f"the metadata cannot be written as JSON ({error}); use plain numbers, strings, lists and dicts"
        ) from error
    check_description(json.loads(text))  # which reading it will do
    write_tensors(file, tensors, {METADATA_KEY: text})
    model_file = file.with_name(MODEL_FILE)
    if model_file.is_file() and model_file.samefile(file):  # in a run's folder it is a link
        accompany(file)


def _check_names(model: ConViT, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a model whose file could not be read again."""
    import torch

    from convit.model import ConViT

    if not isinstance(model, ConViT):
        raise TypeError(
            f"model is a {type(model).__name__}, but only a ConViT can be saved; save the one that it was made from"
        )
    with torch.device("meta"):
        usual = ConViT(model.config, initialize=False).state_dict()
    odd = [name for name in sorted(usual.keys() ^ tensors.keys()) if not name.startswith("patch_embed.")]
    if odd:
        raise ValueError(
            f"a ConViT's weights and the model's differ in {first_few(odd)}; merge adapters and take parametrizations "
            "off before it is saved"
        )


def tensors_to_write(model: nn.Module, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The state dict of a model on the CPU; floating-point tensors in `dtype`, where one is given."""
    return {
        name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in model.state_dict().items()
    }


def write_tensors(file: Path, tensors: dict[str, Tensor], notes: Mapping[str, str]) -> None:
    """Write a safetensors file whole or not at all, in place of one that is there; raises `OSError`."""
    import safetensors.torch

    # serialized in memory, so that a full disk shows as Python's own error; "format" is what other libraries look for
    replace_file(file, safetensors.torch.save(tensors, metadata={"format": "pt", **notes}))


def store_calibration(path: str | Path, calibration: Mapping[str, Any]) -> None:
    """Keep a temperature, and what it did, in a `described_file`; the tensors stay as they are."""
    file = described_file(path)
    text = json.dumps({**read_metadata(file), "calibration": dict(calibration)})
    write_tensors(file, _read_safetensors(file), {METADATA_KEY: text})


def described_file(path: str | Path) -> Path:
    """The file that `load_weights` reads, which must be one that `save_weights` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or does not describe its model.
    """
    file = weights_file(path)
    if "config" not in read_metadata(file):
        raise ValueError(f"{file} does not describe its model; save it with convit.weights.save_weights first")
    return file


def weights_file(path: str | Path) -> Path:
    """The file that `load_weights` reads: `path` itself, or the weights inside it where it is a folder.

    Raises:
        FileNotFoundError: there is no such file, or the folder holds no weights.
        ValueError: it holds several weight files.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise not_found(path, f"there is no weight file {path}; check the path")
    for pattern in (*_PREFERRED, *(f"*{suffix}" for suffix in READABLE)):
        found = sorted(each for each in path.glob(pattern) if each.is_file())
        if len(found) > 1:
            names = ", ".join(each.name for each in found)
            raise ValueError(f"{path} holds several weight files ({names}); name one of them")
        if found:
            return found[0]
    raise FileNotFoundError(f"there is no weight file in {path}; {_kinds(path)}")


def _kinds(folder: Path) -> str:
    """What weight files are called, and that an exported folder holds none where this is one."""
    hint = "; an exported folder holds none: name what it was made from" if (folder / "predict.py").exists() else ""
    return f"those end in {', '.join(READABLE)}{hint}"


def check_metadata(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], place: object) -> None:
    """Refuse a description that is not that of the tensors, before anything is built from it; errors name `place`."""
    from convit.model.config import ConViTConfig
    from convit.weights.adapt import check_config
    from convit.weights.card import check_description

    try:
        check_description(metadata)
        if "config" in metadata:
            check_config(ConViTConfig.from_dict(metadata["config"]), tensors)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"the description inside {place} is not that of a model ({error}); save it again") from error


def _file_to_write(path: str | Path) -> Path:
    file = Path(path).expanduser()
    if file.is_dir() or not file.suffix or str(path).endswith("/"):
        return file / MODEL_FILE
    if file.suffix.lower() != ".safetensors":
        raise ValueError(
            f"weights are written as safetensors, but {file} ends otherwise; name it {file.with_suffix('.safetensors')}"
        )
    return file


@contextmanager
def _one_error(file: Path, kind: str) -> Generator[None]:
    """Turn whatever a library raises on a damaged file into one error; the system's own errors pass."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file} holds more than tensors, and reading the rest could run code from it, so it is refused; "
            "if you trust it, load it with torch.load(weights_only=False) and save its state dict alone"
        ) from error
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)):
            raise
        raise ValueError(f"{file} is not a {kind} file, or it was cut off; copy or fetch it again") from error


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    import safetensors.torch

    with _one_error(file, "safetensors"):
        return safetensors.torch.load_file(file)


def _read_pickle(file: Path) -> Any:
    import torch

    with _one_error(file, "PyTorch"):
        _check_beginning(file)
        # Training scripts of this family keep their parsed arguments beside the weights; that class holds data only.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, which say nothing of what was read
            return torch.load(file, map_location="cpu", weights_only=True)


def _check_beginning(file: Path) -> None:
    """Refuse what is neither a zip archive, as PyTorch writes since 1.6, nor begins as the pickles before that."""
    with file.open("rb") as opened:
        if zipfile.is_zipfile(opened):
            # PyTorch compresses nothing: members larger than the file would unfold without end
            if sum(member.file_size for member in zipfile.ZipFile(opened).infolist()) > file.stat().st_size:
                raise ValueError("its members are larger than the file")
        elif opened.seek(0) != 0 or opened.read(1) != b"\x80":
            raise ValueError("it begins otherwise")


def _unwrap(content: Any, file: object) -> dict[str, Tensor]:
    """The mapping that holds the model, out of what training scripts keep beside it."""
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{file} holds {_kind(content)}, but must hold tensors by name (a state dict)")
    inside = {key: content[key] for key in (*_WRAPPERS, *content) if isinstance(content.get(key), Mapping)}
    models = {key: each for key, each in inside.items() if _anchors(each)}
    places = list(models) or ([] if _anchors(content) else [key for key in _WRAPPERS if key in inside])
    if len(places) > 1 and places[0] not in _WRAPPERS:
        raise _several_models(file, places)
    return dict(inside[places[0]] if places else content)


def _strip_surroundings(tensors: dict[str, Tensor], file: object) -> dict[str, Tensor]:
    """Take off the prefix under which the model stands, and leave out what stands beside it."""
    import torch

    prefixes = [name.removesuffix(_ANCHOR) for name in _anchors(tensors)]
    if len(prefixes) > 1:
        raise _several_models(file, prefixes)
    prefix = prefixes[0] if prefixes else ""
    inside = {
        key: each for key, each in tensors.items() if not prefix or (isinstance(key, str) and key.startswith(prefix))
    }
    if rest := [short(key) for key in tensors if key not in inside]:
        _log.warning("%s: left out what stands beside the model: %s", file, first_few(rest, 4))
    for key, value in inside.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{file} holds {_kind(value)} under {short(key)}, but must hold tensors by name "
                f"(a state dict, or one under {', '.join(_WRAPPERS)})"
            )
        is_plain = value.layout == torch.strided and value.device.type == "cpu"
        if not is_plain or value.untyped_storage().nbytes() < value.nbytes:
            raise ValueError(f"{file} holds {short(key)} without all its numbers; save plain tensors")
    return {key.removeprefix(prefix): value for key, value in inside.items()}


def _anchors(content: Mapping[Any, Any]) -> list[str]:
    """The names in a mapping that a ConViT stands under."""
    return [name for name in content if isinstance(name, str) and (name == _ANCHOR or name.endswith(f".{_ANCHOR}"))]


def tensors_in(content: Any, place: object) -> dict[str, Tensor]:
    """The model's tensors by name, out of what training scripts put around it; errors name `place`."""
    return _strip_surroundings(_unwrap(content, place), place)


def _several_models(file: object, places: Iterable[Any]) -> ValueError:
    named = ", ".join(short(place) for place in list(places)[:4])
    return ValueError(f"{file} holds several models, under {named}; save the state dict of one of them alone")


def _kind(value: Any) -> str:
    return "nothing" if isinstance(value, Mapping) and not value else f"a {type(value).__name__}"
