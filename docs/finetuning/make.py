"""Fine-tunes from several starts on few images and keeps what is found in docs/finetuning.

    python docs/finetuning/make.py measure data/cifar10    some twenty minutes of one core; then README.md
    python docs/finetuning/make.py write                   README.md from what is kept; --check only compares

The folder holds CIFAR-10 as shards. No image of it is kept.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from textwrap import fill
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from documents import keep_json, measured_on, read_json, run_convit, run_tool

DOCS = Path(__file__).resolve().parent
BUNDLED, CIFAR = "convit_mini_patch8_64.tiny_imagenet", "convit_nano_patch4_32.cifar10"
# name of a start → weights, and what `convit finetune` is told besides
STARTS = {
    f"`{BUNDLED}`": (BUNDLED, ()),
    f"`{CIFAR}`": (CIFAR, ()),
    "random weights": (BUNDLED, ("--set", "model.weights=null", "--set", "optimizer.layer_decay=1")),
}
SETS = {
    "100 CIFAR-10 images": "100 training images of CIFAR-10, 10 of each class",
    "1,000 CIFAR-10 images": "1,000 training images of CIFAR-10, 100 of each class",
    "textures": "pieces of 64 x 64 pixels from the left halves of four photographs inside scikit-image (brick, grass, "
    "gravel, moon; public domain), as many from the right halves to test on",
}
SIDE = 64  # pixels of a piece of a photograph


def measure(data: str) -> None:
    """Fine-tune and probe every start on every set."""
    from convit.benchmark.running import describe_machine

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as made:
        for name, folder in zip(SETS, _write_sets(Path(data), Path(made)), strict=True):
            for start, (weights, settings) in STARTS.items():
                run, probed = Path(made) / "runs" / f"{len(rows)}", Path(made) / f"probe-{len(rows)}.json"
                run_convit("finetune", folder, "--model", weights, *settings, "--output", run)
                run_convit("probe", folder, "--model", weights, "--output", probed)
                rows.append({"set": name, "start": start, **_found(run, None if settings else probed)})
                print(rows[-1], flush=True)
    keep_json(DOCS / "starts.json", {"rows": rows, "machine": describe_machine()})


def _found(run: Path, probed: Path | None) -> dict[str, Any]:
    """What a run's report says of the test images, and the linear probe of the weights that it began with."""
    report = read_json(run / "report.json")
    kept = {key: report["test"][key] for key in ("top1", "count")} | {"interval": report["test"]["intervals"]["top1"]}
    scores = [] if probed is None else read_json(probed)["probes"]
    linear = next((score["top1"] for score in scores if score["probe"] == "linear"), None)
    return {**kept, "epochs": report["epochs"]["done"], "linear": linear}


def _write_sets(cifar10: Path, folder: Path) -> Iterable[Path]:
    """The sets as folders with train/ and test/."""
    from convit.data import open_samples

    for count in (10, 100):
        for part, most in (("train", count), ("test", 10_000)):
            images, seen = open_samples(cifar10, split=part), Counter[int]()
            for image in images:
                seen[image.label] += 1
                if seen[image.label] <= most:
                    assert isinstance(image.content, bytes)  # as in shards
                    _next(folder / f"cifar{count}" / part / images.class_titles[image.label]).write_bytes(image.content)
        yield folder / f"cifar{count}"
    from skimage import data

    for name in ("brick", "grass", "gravel", "moon"):
        _write_pieces(getattr(data, name)(), folder / "textures", name)
    yield folder / "textures"


def _write_pieces(photograph: Any, folder: Path, name: str) -> None:
    """Cut a photograph into square pieces: the left half is trained on, the right half tested on."""
    from PIL import Image

    image = Image.fromarray(photograph)
    for top in range(0, image.height - SIDE + 1, SIDE):
        for left in range(0, image.width - SIDE + 1, SIDE):
            if left < image.width / 2 < left + SIDE:
                continue
            part = "train" if left + SIDE <= image.width / 2 else "test"
            image.crop((left, top, left + SIDE, top + SIDE)).save(_next(folder / part / name))


def _next(folder: Path) -> Path:
    """The place of a folder's next image."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{len(list(folder.iterdir()))}.png"


def render() -> str:
    """The text of README.md: no figure in it is typed in."""
    found = read_json(DOCS / "starts.json")
    about = (
        "Made by `docs/finetuning/make.py`, which runs `convit finetune` as it comes and `convit probe` on the same "
        "folders. Test images are scored once, at the end; settings, epochs and the epoch that is kept are chosen on "
        "training images. The linear probe is logistic regression on the embeddings of the weights to begin with, "
        "fitted to all training images. Accuracy is top-1 on the test images, in percent, with its 95 % interval."
    )
    remark = (
        f"`{CIFAR}` was trained on all 50,000 training images of CIFAR-10, the ones here among them: its figures there "
        f"show what such weights hold, not what they learn from so few images. `{BUNDLED}` never saw them. Random "
        "weights are of the same architecture as the latter."
    )
    sets = "\n".join(f"- {name}: {text}." for name, text in SETS.items())
    lines = "\n".join(_line(row) for row in found["rows"])
    return f"""# What weights in the package save in labeled images

{fill(about, 120)}

{sets}

{fill(remark, 120)}

| images | test images | from | epochs | fine-tuned | linear probe |
| --- | ---: | --- | ---: | ---: | ---: |
{lines}

{fill(f"{measured_on(found['machine'])} One seed.", 120)}
"""


def _line(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    linear = "" if row["linear"] is None else f"{row['linear']:.1f}"
    tuned = f"{row['top1']:.1f} ({low:.1f}-{high:.1f})"
    return f"| {row['set']} | {row['count']:,} | {row['start']} | {row['epochs']} | {tuned} | {linear} |"


if __name__ == "__main__":
    sys.exit(run_tool(DOCS / "README.md", __doc__, render, measure))
