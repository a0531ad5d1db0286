"""The inputs of `tools/fuzz.py`: for each kind of file, small valid ones, how they are damaged, and what reads them."""

from __future__ import annotations

import io
import json
import random
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image

from convit.data import open_samples
from convit.data.classes import read_classes
from convit.data.label_maps import read_label_map
from convit.images import ImageError, open_image
from convit.model import ConViT, ConViTConfig
from convit.training.recipe_io import read_recipe
from convit.weights import adapt_weights, load_model, load_weights, save_weights
from convit.weights.adapt import infer_config, recognize
from tests.data.making import write_parquet, write_shard

ROOT = Path(__file__).resolve().parents[1]
NUMBERS = (0, 1, -1, 2, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64, 10**4000)
FLOATS = (0.0, -0.5, 1e-300, 1e300, float("nan"), float("inf"))
VALUES: tuple[Any, ...] = (*NUMBERS, *FLOATS, None, True, "", "x" * 5000, [], {}, [[]])
WORDS = ["null", "true", ".nan", ".inf", "2020-99-99", "'", '"', "[", "{", "}", "]", "&a", "*a", "!!python/x"]
MARKS = "\0\t\r\n\x1b\u202e\ud7ff{[:,-#"
SIZES = (b"77777777777\0", b"00000000000\0", b"\x80" + b"\xff" * 11, b"-0000000001\0", b"00000007777\0")
Damage = Callable[[bytes, random.Random], bytes]
Made = tuple[tuple[str, Callable[[Path], object]], ...]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        seeds: gives valid files, as (suffix of the name, content).
        read: reads one as a command would, and raises what the command would meet.
        damages: ways to damage one that keep its outer form; `damage_bytes` is always one more.
    """

    seeds: Callable[[], list[tuple[str, bytes]]]
    read: Callable[[Path], object]
    damages: tuple[Damage, ...] = ()


def damage_bytes(content: bytes, chance: random.Random) -> bytes:
    """Change bytes without regard to what they mean: flip, overwrite with a number, drop, repeat, cut off."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        place, length = chance.randrange(len(data) + 1), chance.choice((1, 2, 4, 8, 32, 256))
        way = chance.randrange(6)
        if way == 0 and place < len(data):
            data[place] ^= 1 << chance.randrange(8)
        elif way == 1:
            number = (chance.choice(NUMBERS[:-1]) % 2**64).to_bytes(8, chance.choice(("little", "big")))
            data[place : place + 8] = number[: chance.choice((1, 2, 4, 8))]
        elif way == 2:
            del data[place : place + length]
        elif way == 3:
            data[place:place] = data[place : place + length] * chance.choice((1, 3, 50))
        elif way == 4:
            data[place : place + length] = chance.randbytes(length)
        elif chance.random() < 0.3:
            del data[place:]
    return bytes(data)


def damage_text(content: bytes, chance: random.Random) -> bytes:
    """Change a text by its tokens: other numbers and words, lines twice, deep nesting."""
    text = content.decode("utf-8", "replace")
    for _ in range(chance.choice((1, 1, 2, 5))):
        place = chance.randrange(len(text) + 1)
        end = place + chance.choice((0, 1, 3, 9))
        token = str(chance.choice(chance.choice((NUMBERS, WORDS, MARKS))))
        token = token if len(token) > 99 else token * chance.choice((1, 1, 1, 2, 3000))
        text = text[:place] + token + text[end:]
        if chance.random() < 0.3:
            lines = text.splitlines(keepends=True)
            text += chance.choice(lines) if lines else ""
    return text.encode("utf-8", "surrogatepass")


def damage_json(value: Any, chance: random.Random) -> Any:
    """Replace, drop or nest one value somewhere inside a JSON value."""
    if isinstance(value, dict | list) and value and chance.random() < 0.9:
        changed = dict(value) if isinstance(value, dict) else list(value)
        key: Any = chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))
        if chance.random() < 0.1:
            del changed[key]
        else:
            changed[key] = damage_json(changed[key], chance)
        return changed
    return chance.choice((chance.choice(VALUES), [value], {"a": value}, str(value)))


def _damage_header(content: bytes, chance: random.Random) -> bytes:
    """A safetensors file whose JSON header, or the description inside it, says something else."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    notes = header["__metadata__"]
    if "convit" in notes and chance.random() < 0.8:
        notes["convit"] = json.dumps(damage_json(json.loads(notes["convit"]), chance))
    else:
        header = damage_json(header, chance)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def _damage_member(content: bytes, chance: random.Random) -> bytes:
    """A zip archive with one member damaged and every checksum right; other files as `damage_bytes` does."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return damage_bytes(content, chance)
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(result, "w") as after:
        names = before.namelist()
        chosen = chance.choice([*names, *(name for name in names if name.endswith(".pkl"))])
        for name in names:
            member = before.read(name)
            after.writestr(name, damage_bytes(member, chance) if name == chosen else member)
    return result.getvalue()


def _damage_chunks(content: bytes, chance: random.Random) -> bytes:
    """A PNG file with chunks damaged and checksums right; other files as `damage_bytes` does."""
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        return damage_bytes(content, chance)
    result, place = bytearray(content[:8]), 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        body = content[place + 4 : place + 8 + length]
        if chance.random() < 0.3:
            body = body[:4] + damage_bytes(body[4:], chance)
        result += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return bytes(result)


def _damage_tar(content: bytes, chance: random.Random) -> bytes:
    """A tar file with a header block damaged and its checksum right."""
    data = bytearray(content)
    block = 512 * chance.randrange(max(1, len(data) // 512))
    header = bytearray(damage_bytes(bytes(data[block : block + 512]), chance)[:512].ljust(512, b"\0"))
    if chance.random() < 0.5:
        header = bytearray(data[block : block + 512].ljust(512, b"\0"))
        header[124:136] = chance.choice(SIZES)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[block : block + 512] = header
    return bytes(data)


def _images() -> list[tuple[str, bytes]]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 4), dtype=np.uint8)
    color, exif = Image.fromarray(pixels[..., :3]), Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a note"
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    floats = Image.fromarray(pixels[..., 0].astype(np.float32) / 255)
    modes = [(image, "PNG") for image in (color, Image.fromarray(pixels), deep, color.convert("P"), color.convert("1"))]
    modes += [(color.convert("CMYK"), "JPEG"), (color.convert("L"), "JPEG"), (deep, "TIFF"), (floats, "TIFF")]
    modes += [
        (color, name) for name in ["JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "PPM", "ICO", "JPEG2000", "TGA", "MPO"]
    ]
    found: list[tuple[str, bytes]] = []
    for image, name in modes:
        buffer = io.BytesIO()
        image.save(buffer, name, **({"exif": exif} if name in ("JPEG", "PNG", "WEBP", "AVIF", "MPO") else {}))
        found.append((".png", buffer.getvalue()))
    return found


@cache
def _model() -> ConViT:
    config = ConViTConfig(img_size=16, patch_size=8, num_classes=3, embed_dim=4, depth=2, local_up_to_layer=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ConViT(config)
    model.pretrained_cfg = {"label_names": ("a", "b", "c"), "license": "none", "trained_on": "noise"}
    return model


def _safetensors() -> list[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        save_weights(path := Path(folder, "a.safetensors"), _model())
        described = path.read_bytes()
    bare = safetensors.torch.save(_model().state_dict(), {"format": "pt"})
    return [(".safetensors", described), (".safetensors", bare)]


def _pickles() -> list[tuple[str, bytes]]:
    state = _model().state_dict()
    found: list[tuple[str, bytes]] = []
    for content in (state, {"model": {f"module.{name}": each for name, each in state.items()}, "epoch": 3}):
        for is_zip in (True, False):
            torch.save(content, buffer := io.BytesIO(), _use_new_zipfile_serialization=is_zip)
            found.append((".pth", buffer.getvalue()))
    return found


def _read_weights(path: Path) -> None:
    if path.suffix == ".safetensors":
        load_model(path)
        return
    tensors, _ = load_weights(path)
    recognize(tensors)
    infer_config(tensors, _model().config)
    adapt_weights(tensors, _model())


def _recipes() -> list[tuple[str, bytes]]:
    return [(".yaml", path.read_bytes()) for path in sorted((ROOT / "recipes").glob("*.yaml"))]


def _label_maps() -> list[tuple[str, bytes]]:
    pairs = {"cat": "tabby", "2": "n02123045", "big_dog": "17"}
    rows = "".join(f"{name},{target}\n" for name, target in pairs.items()).encode()
    texts = [(".json", json.dumps(pairs).encode()), (".json", json.dumps(list(pairs)).encode()), (".csv", rows)]
    numbered = json.dumps([{"index": number, "name": name, "wnid": None} for number, name in enumerate(pairs)])
    texts += [(".classes.json", numbered.encode()), (".classes.json", texts[1][1])]
    return [*texts, (".tsv", rows.replace(b",", b"\t")), (".txt", rows.replace(b",", b" "))]


def _files(made: Made) -> list[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        found: list[tuple[str, bytes]] = []
        for number, (suffix, make) in enumerate(made):
            make(path := Path(folder, f"{number}{suffix}"))
            found.append((suffix, path.read_bytes()))
        return found


def _write_long_names(path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("ü" * 120, "a/" * 60 + "b"):
            for suffix, data in ((".cls", b"1"), (".png", _images()[0][1])):
                member = tarfile.TarInfo(name + suffix)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def _read_samples(path: Path) -> None:
    for sample in open_samples(path):
        with suppress(ImageError):  # which a run counts and passes over
            open_image(sample.content)


def _read_label_map(path: Path) -> object:
    return read_classes(path) if path.name.endswith(".classes.json") else read_label_map(path)


_PARQUET: Made = ((".parquet", partial(write_parquet, numbers=range(6))),)
_PARQUET += ((".parquet", partial(write_parquet, numbers=range(4), noted=False)),)
_SHARDS: Made = tuple((suffix, partial(write_shard, numbers=range(4))) for suffix in (".tar", ".tar.gz"))
_SHARDS += ((".tar", _write_long_names),)
KINDS = {
    "images": Kind(_images, open_image, (_damage_chunks,)),
    "safetensors": Kind(_safetensors, _read_weights, (_damage_header, _damage_header)),
    "pickles": Kind(_pickles, _read_weights, (_damage_member,)),
    "recipes": Kind(_recipes, read_recipe, (damage_text, damage_text)),
    "label-maps": Kind(_label_maps, _read_label_map, (damage_text,)),
    "parquet": Kind(partial(_files, _PARQUET), _read_samples),
    "tar": Kind(partial(_files, _SHARDS), _read_samples, (_damage_tar,)),
}
