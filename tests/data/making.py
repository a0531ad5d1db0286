"""Small shards, folders and tables, made on the fly."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(number: int, size: int = 8) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_members(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_shard(path: Path, numbers: Sequence[int], classes: int = 2, size: int = 8) -> Path:
    """Sample n is picture n, of class n modulo `classes`; its pixels' mean tells the classes apart."""
    return write_samples(path, ((f"s{n:04d}.png", encoded(picture(n, size)), n % classes) for n in numbers))


def write_samples(path: Path, samples: Iterable[tuple[str, bytes, object]]) -> Path:
    """A shard of images: the name, the content and the label of each, or None."""
    members: list[tuple[str, bytes]] = []
    for name, content, label in samples:
        members.append((name, content))
        if label is not None:
            members.append((str(Path(name).with_suffix(".cls")), str(label).encode()))
    return write_members(path, members)


def write_folder(root: Path, names: Sequence[str], per_class: int = 2) -> Path:
    for index, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            picture(10 * index + number).save(root / name / f"{number}.png")
    return root


def write_parquet(
    path: Path,
    numbers: Sequence[int],
    classes: Sequence[str] = ("even", "odd"),
    *,
    noted: bool = True,
    group: int = 2,
) -> Path:
    """As the hub lays it out: row n is picture n, of class n modulo the classes; `noted` are the classes' names."""
    images = [{"bytes": encoded(picture(number)), "path": f"{number}.png"} for number in numbers]
    labels = [number % len(classes) for number in numbers]
    return write_table(path, images, labels, classes if noted else None, group)


def write_table(
    path: Path,
    images: Sequence[Mapping[str, Any]],
    labels: Sequence[Any],
    names: Sequence[str] | None,
    group: int = 2,
) -> Path:
    """Images and labels as the hub lays them out, with the names of the labels noted where they are given."""
    table = pa.table({"image": images, "label": labels})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=group)
    return path
