"""Fetches the published weights from the hub and from the authors, and compares our logits with timm's on photographs.

    python tools/check_hub.py [FOLDER_OF_PHOTOS ...] [--models convit_tiny.fb_in1k ...] [--output FILE.json]

Without folders it takes scikit-image's photographs. Each weight set gives one row per source: the file's sha256,
whether the preprocessed pictures are equal to the last bit, and the largest difference of logits over the largest logit
(fp32; at most 1e-4 passes), with the same file in both libraries. A source that cannot be reached gives a row "not
measured".

Exit code: 0 when everything that was measured agrees, also where nothing could be measured, which is then said; 1 when
something differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import timm.data
import torch
from PIL import Image

from convit.images import find_images, open_image
from convit.output.files import hash_file
from convit.output.text import made_with
from convit.transforms import create_transform, resolve_model_data_config
from convit.weights import WEIGHT_SETS, WeightSet, create_model, find_weight_set
from convit.weights.download import default_folder, fetch_url
from convit.weights.fetch import fetch_hub_file
from convit.weights.hub import parse_repo

TOLERANCE = 1e-4
PHOTOGRAPHS = ("chelsea", "coffee", "rocket", "astronaut")

Pictures = Mapping[str, Image.Image]


def read_pictures(folders: Sequence[Path]) -> dict[str, Image.Image]:
    """Read every image of some folders, or scikit-image's photographs where there are none, as RGB."""
    if folders:
        return {path.name: open_image(path) for path in find_images(folders)}
    import skimage.data

    return {name: Image.fromarray(getattr(skimage.data, name)()) for name in PHOTOGRAPHS}


def fetch_from_hub(weight_set: WeightSet) -> Path:
    """The file of the hub alone."""
    assert weight_set.hub_repo is not None
    return fetch_hub_file(parse_repo(weight_set.hub_repo))


def fetch_from_authors(weight_set: WeightSet) -> Path:
    """The file of the authors' server alone."""
    assert weight_set.url is not None
    return fetch_url(weight_set.url, default_folder(), weight_set.sha256)


SOURCES: dict[str, Callable[[WeightSet], Path]] = {"hub": fetch_from_hub, "authors": fetch_from_authors}


def check(weight_set: WeightSet, source: str, pictures: Pictures) -> dict[str, Any]:
    """One row: fetch a file and compare, or say why that could not be done."""
    row: dict[str, Any] = {"weights": weight_set.name, "source": source}
    try:
        path = SOURCES[source](weight_set)
    except ConnectionError as error:
        return {**row, "status": "not measured", "reason": str(error)}
    return {
        **row,
        "sha256": hash_file(path),
        "bytes": path.stat().st_size,
        **compare(weight_set.architecture, path, pictures),
    }


@torch.no_grad()
def compare(architecture: str, path: Path, pictures: Pictures) -> dict[str, Any]:
    """Logits of one file here and in timm, picture by picture, each library with its own preprocessing."""
    ours = create_model(architecture, checkpoint_path=path).eval()
    theirs = timm.create_model(architecture, checkpoint_path=str(path)).eval()
    our_transform = create_transform(**resolve_model_data_config(ours), is_training=False)
    their_transform: Any = timm.data.create_transform(**timm.data.resolve_model_data_config(theirs), is_training=False)
    difference, agreeing, equal = 0.0, 0, True
    labels = ours.pretrained_cfg["label_names"]
    best: dict[str, str] = {}
    for name, picture in pictures.items():
        mine, reference = our_transform(picture), their_transform(picture)
        equal = equal and torch.equal(mine, reference)
        logits, expected = ours(mine.unsqueeze(0)), theirs(reference.unsqueeze(0))
        difference = max(difference, ((logits - expected).abs().max() / expected.abs().max()).item())
        agreeing += int(logits.argmax() == expected.argmax())
        best[name] = labels[int(logits.argmax())]
    agrees = equal and difference <= TOLERANCE and agreeing == len(pictures)
    return {
        "status": "agrees" if agrees else "DIFFERS",
        "pictures": len(pictures),
        "preprocessing_equal": equal,
        "largest_difference": difference,
        "same_first_class": agreeing,
        "first_classes": best,
    }


def show(row: Mapping[str, Any]) -> None:
    """Print one row of the table."""
    start = f"{row['weights']:24}{row['source']:10}{row['status']:14}"
    if row["status"] == "not measured":
        print(f"{start}{row['reason'].partition('; without')[0]}", flush=True)
        return
    preprocessing = "equal" if row["preprocessing_equal"] else "DIFFERENT"
    print(
        f"{start}largest difference {row['largest_difference']:.1e}, preprocessing {preprocessing}, "
        f"{row['same_first_class']} of {row['pictures']} first classes the same, sha256 {row['sha256'][:16]}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check; the exit code stands in the module's description."""
    released = [name for name, each in WEIGHT_SETS.items() if each.source == "hub"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--models", nargs="+", default=released, metavar="NAME")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    given = parser.parse_args(arguments)
    pictures = read_pictures(given.folders)
    rows: list[dict[str, Any]] = []
    for name in given.models:
        for source in SOURCES:
            rows.append(check(find_weight_set(name), source, pictures))
            show(rows[-1])
    measured = [row for row in rows if row["status"] != "not measured"]
    if not measured:
        print("nothing could be measured: neither the hub nor the authors' server can be reached from here")
    if given.output is not None:
        report = {**made_with("convit", "timm", "torch", "huggingface_hub"), "rows": rows}
        given.output.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(any(row["status"] == "DIFFERS" for row in measured))


if __name__ == "__main__":
    sys.exit(main())
