"""Probes the bundled model's embeddings and keeps what is found in docs/probes.

    python docs/probes/make.py --data data     CIFAR-10 and Tiny ImageNet, some ten minutes; then README.md
    python docs/probes/make.py --large                   time and memory on 100,000 made-up vectors; then README.md
    python docs/probes/make.py                           README.md and figures from what is kept; --check only compares

DATA holds `cifar10` and `tiny-imagenet` as shards. No image and no embedding of them is kept.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from textwrap import fill
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from documents import keep_json, measured_on, parser_of, read_json, run_convit, write_or_check

DOCS = Path(__file__).resolve().parent
MODEL = "convit_mini_patch8_64.tiny_imagenet"
SETS = {
    "cifar10": ("CIFAR-10, which the model never saw", ""),
    "tiny-imagenet": (
        "Tiny ImageNet, which it was trained on",
        "The probes' training images are the model's own, which is why it does better on those left out than on test "
        "images.",
    ),
}
WIDTH = 120
IMAGES, TESTED, DIM, CLASSES = 100_000, 10_000, 768, 200
SEPARATION = 0.15  # of the made-up classes' centers, in deviations within a class


def measure(data: Path, cache: Path | None) -> None:
    """Run `convit probe` on both sets, and keep its JSON."""
    from convit.benchmark.running import describe_machine

    for name in SETS:
        with tempfile.TemporaryDirectory() as folder:
            kept = cache or Path(folder) / "embeddings"
            options = ("--model", MODEL, "--device", "cpu", "--workers", 0)
            run_convit("probe", data / name, *options, "--cache", kept, "--output", f"{folder}/found.json")
            found = read_json(Path(folder) / "found.json")
            keep_json(DOCS / f"{name}.json", {**found, "machine": describe_machine()})


def measure_large() -> None:
    """Time the probes on made-up vectors, each in a process of its own, so that peaks of memory do not mix."""
    from convit.benchmark.running import describe_machine

    with tempfile.TemporaryDirectory() as folder:
        _make_vectors(Path(folder))
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as alone:
            rows = list(alone.map(partial(measure_one, folder=Path(folder)), ("knn", "linear", "ridge")))
    counts = {"images": IMAGES, "tested": TESTED, "dim": DIM, "classes": CLASSES}
    keep_json(DOCS / "large.json", {**counts, "probes": rows, "machine": describe_machine()})


def measure_one(name: str, folder: Path) -> dict[str, Any]:
    """Time one probe on the vectors in a folder."""
    import numpy as np

    from convit.evaluation.probes import Task
    from convit.evaluation.probes.fitting import probe_logistic, probe_nearest, probe_ridge

    train, test = (np.load(folder / f"{part}.npy") for part in ("train", "test"))
    labels = np.load(folder / "labels.npy")
    task = Task(train, labels[: len(train)], test, labels[len(train) :], tuple(map(str, range(CLASSES))))
    run = {"knn": probe_nearest, "linear": probe_logistic, "ridge": probe_ridge}[name]
    score = run(task)
    found = {key: getattr(score, key) for key in ("probe", "seconds", "top1", "setting", "chosen", "chosen_by")}
    return {**found, "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}


def _make_vectors(folder: Path) -> None:
    """Vectors around a center for each class, in features that are correlated as embeddings are."""
    import numpy as np

    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(DIM, DIM)).astype(np.float32) / np.sqrt(np.arange(1, DIM + 1, dtype=np.float32))[:, None]
    centers = SEPARATION * rng.normal(size=(CLASSES, DIM)).astype(np.float32)
    labels = rng.integers(0, CLASSES, IMAGES + TESTED)
    np.save(folder / "labels.npy", labels)
    for part, of_part in (("train", labels[:IMAGES]), ("test", labels[IMAGES:])):
        noise = rng.normal(size=(len(of_part), DIM)).astype(np.float32)
        np.save(folder / f"{part}.npy", (noise + centers[of_part]) @ mixing + 1)


def render(found: dict[str, dict[str, Any]]) -> str:
    """The text of README.md: no figure in it is typed in."""
    about = (
        "Made by `docs/probes/make.py` from the JSON files beside it, which `convit probe` wrote. The model, "
        f"`{MODEL}`, stays as it is; probes are trained on its embeddings. Everything that is chosen is chosen on "
        "training images: k and alpha by leaving each out in turn, C by cross-validation. Top-1 and top-5 in percent; "
        "a guess is right in 100 / classes percent."
    )
    return f"""# What the bundled model's embeddings know

{fill(about, WIDTH)}

{"".join(_section(name, found[name]) for name in SETS)}## Time and memory

{_large(found["large"])}"""


def draw(found: dict[str, Any], file: Path) -> None:
    """The figure that `convit probe --report` writes."""
    from convit.evaluation.plots import draw_few_shot
    from convit.output.plots import png_of

    file.write_bytes(png_of(draw_few_shot(_probing(found))))


def _probing(found: dict[str, Any]) -> Any:
    from convit.evaluation.probes import ProbeScore, Probing

    known: dict[str, Any] = {each.name: found[each.name] for each in fields(Probing)}
    known |= {part: tuple(ProbeScore(**score) for score in found[part]) for part in ("probes", "few_shot")}
    return Probing(**known)


def _section(name: str, found: dict[str, Any]) -> str:
    from convit.evaluation.probes.report import notes, shown_rows

    probing = _probing(found)
    title, remark = SETS[name]
    head, *lines = shown_rows(probing)
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    tried = probing.probes[0].tried
    neighbors = "\n".join(
        f"| {row['k']} | {row['validation_top1']:.2f} | {row['test_top1']:.2f} | {row['test_top5']:.2f} |"
        for row in tried
    )
    measured = (
        f"{probing.tested_on[0].upper()}{probing.tested_on[1:]}; {probing.classes} classes, {probing.dim} values per "
        f"image, {probing.precision}, seed {probing.seed}."
    )
    about = " ".join(filter(None, (measured, remark, measured_on(found["machine"]))))
    return f"""## {title}

    convit probe {name} --model {probing.model} --device cpu --report report

{fill(about, WIDTH)}

| {" | ".join(head)} |
| --- | ---: | ---: | ---: | ---: | --- | ---: |
{table}

{fill(" ".join(notes(probing)), WIDTH)}

![Top-1 over the number of training images per class]({name}.png)

Nearest neighbors, by how many vote; left out: training images, each left out in turn:

| k | top-1, left out | top-1, test | top-5, test |
| ---: | ---: | ---: | ---: |
{neighbors}

"""


def _large(found: dict[str, Any]) -> str:
    lines = "\n".join(
        f"| {row['probe']} | {row['seconds']:.0f} | {row['gigabytes']:.2f} | {row['setting']} {row['chosen']:g}, "
        f"by {row['chosen_by']} |"
        for row in found["probes"]
    )
    about = (
        f"{found['images']:,} made-up training vectors of {found['dim']} values in {found['classes']} classes, and "
        f"{found['tested']:,} to test on, without the embedding. Memory is the most that the process held, the vectors "
        f"included. {measured_on(found['machine'])}"
    )
    return f"""{fill(about, WIDTH)}

| probe | seconds | GB | chosen |
| --- | ---: | ---: | --- |
{lines}
"""


def main() -> int:
    """Run the tool; 1 where `--check` finds README.md out of date."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, help="the folder of cifar10 and tiny-imagenet")
    parser.add_argument("--cache", type=Path, help="where embeddings of an earlier run lie, or are kept")
    parser.add_argument("--large", action="store_true", help="measure time and memory")
    parser.add_argument("--check", action="store_true", help="write nothing")
    given = parser.parse_args()
    if given.data is not None:
        measure(given.data, given.cache)
    if given.large:
        measure_large()
    found = {name: read_json(DOCS / f"{name}.json") for name in (*SETS, "large")}
    if not given.check:
        for name in SETS:
            draw(found[name], DOCS / f"{name}.png")
    return write_or_check(DOCS / "README.md", render(found), "python docs/probes/make.py", check=given.check)


if __name__ == "__main__":
    sys.exit(main())
