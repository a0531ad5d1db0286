"""What large jobs cost: the rates behind `convit plan`, and what shards and Ray add to the plain loop.

    python benchmarks/scale.py rates --photos FOLDER          # writes src/convit/scale/rates.json
    python benchmarks/scale.py loops --data FOLDER            # plain against --shard and --engine ray; keeps a result

Everything is counted in CPU seconds, of all processes together, so that what else runs on the machine matters little.
`loops` runs each command on two numbers of images in turn: their difference leaves start-up out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

RATES = Path(__file__).resolve().parents[1] / "src" / "convit" / "scale" / "rates.json"
MODEL = "convit_mini_patch8_64.tiny_imagenet"
MODELS = ("convit_tiny", "convit_small", "convit_base")
SECONDS = 4.0  # of CPU, per measurement
LOOPS = {
    "plain": ("-o", "out.parquet", "--overwrite"),
    "shard": ("-o", "{out}/", "--shard", "0/1"),
    "ray": ("-o", "{out}/", "--engine", "ray"),
}


class Case(NamedTuple):
    """A model, the numbers of images that it embeds, in shards of how many, and what is expected of each loop.

    Both numbers keep every core busy, so that their difference holds no start of another Ray worker.

    Attributes:
        targets: images per CPU second, of the plain loop's.
    """

    model: str
    sizes: tuple[int, int]
    per_shard: int
    targets: dict[str, float]


CASES = {
    "64": Case(MODEL, (2500, 22_500), 500, {"shard": 0.98, "ray": 0.9}),
    "224": Case("convit_tiny", (200, 1400), 50, {"shard": 0.98, "ray": 0.97}),
}


def per_item(items: Iterable[Any], call: Callable[[Any], object]) -> float:
    """CPU seconds of a call, on items one after another, again and again for some seconds."""
    items = list(items)
    for item in items[:3]:
        call(item)
    begun, done = time.process_time(), 0
    while time.process_time() - begun < SECONDS:
        for item in items:
            call(item)
        done += len(items)
    return (time.process_time() - begun) / done


def measure_rates(photos: Path, data: Path) -> dict[str, Any]:
    """Reading, decoding at two sizes, and models in fp32, on one core."""
    import torch

    from benchmarks.machine import describe_machine
    from convit import Embedder, create_model, save_weights
    from convit.data.shards import read_images
    from convit.model.counting import count_operations

    torch.set_num_threads(1)
    small = [content for _, content in read_images(str(data))][:500]
    large = [file.read_bytes() for file in sorted(photos.rglob("*")) if file.suffix.lower() in (".jpg", ".jpeg")]
    models: dict[str, Any] = {}
    decode: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(Path(place, "read.tar"), "w") as archive:
            for number, content in enumerate(large * (1 + 200 // len(large))):
                Path(place, "0.jpg").write_bytes(content)
                archive.add(Path(place, "0.jpg"), f"{number}.jpg")
        size = Path(place, "read.tar").stat().st_size
        reading = per_item([Path(place, "read.tar")], lambda file: [len(read) for _, read in read_images(str(file))])
        for name in MODELS:
            model = create_model(name)
            save_weights(Path(place, f"{name}.safetensors"), model)
            embedder = Embedder(weights=Path(place, f"{name}.safetensors"), workers=0)
            pixels = [embedder._read(large[0]).pixels] * embedder.batch_size
            seconds = per_item([pixels], embedder._forward) / len(pixels)
            models[name] = {"seconds": round(seconds, 6), "gmacs": round(count_operations(model).gmacs, 3)}
            print(f"{name}: {1 / seconds:.2f} images/s", flush=True)
            if not decode:
                for images in (small, large):
                    mean = sum(map(len, images)) / len(images)
                    decode.append({"bytes": round(mean), "seconds": round(per_item(images, embedder._read), 6)})
    machine = describe_machine()
    about = {name: machine[name] for name in ("device", "cpu_flags", "versions", "date")}
    return {"machine": about, "read": {"bytes_per_second": round(size / reading)}, "decode": decode, "models": models}


def run(command: list[str], place: Path) -> tuple[float, float]:
    """CPU seconds of a command and all processes below it, and the most memory of all of them together, MB."""
    process = psutil.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds: dict[int, float] = {}
    most = 0.0
    while process.poll() is None:
        held = 0
        for each in [process, *process.children(recursive=True)]:
            try:
                times = each.cpu_times()
                seconds[each.pid] = times.user + times.system
                held += each.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        most = max(most, held / 1e6)
        time.sleep(0.1)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return sum(seconds.values()), most


def write_images(data: Path, sizes: tuple[int, int], place: Path) -> None:
    """Write as many images of some shards into folders that are named by their number."""
    from convit.data.shards import read_images

    for size in sizes:
        (place / f"{size}").mkdir()
    archives = sorted(data.glob("train-*.tar.gz")) if data.is_dir() else [data]
    contents = (content for archive in archives for _, content in read_images(str(archive)))
    for number, content in zip(range(max(sizes)), contents, strict=False):
        for size in sizes:
            if number < size:
                (place / f"{size}" / f"{number:05}.jpg").write_bytes(content)


def measure_loops(data: Path, rounds: int, names: list[str], case: Case) -> list[dict[str, Any]]:
    """CPU seconds per image of each loop, start-up left out, and its memory at two sizes."""
    from convit import create_model, save_weights

    few, many = case.sizes
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_images(data, case.sizes, place)
        model = ("--model", case.model)
        if "." not in case.model:
            save_weights(place / "made.safetensors", create_model(case.model))
            model = ("--weights", "made.safetensors")
        common = (*model, "--workers", "0", "--device", "cpu")
        for turn in range(rounds):
            for name in names:
                for size in case.sizes:
                    options = [each.format(out=f"{name}-{size}-{turn}") for each in LOOPS[name]]
                    options += ["--images-per-shard", f"{case.per_shard}"] if name != "plain" else []
                    command = [sys.executable, "-m", "convit", "embed", f"{size}", *common, *options]
                    found.setdefault((name, size), []).append(run(command, place))
                    print(name, size, found[name, size][-1], flush=True)
    rows: list[dict[str, Any]] = []
    for name in names:
        runs = found[name, few], found[name, many]
        each = [(b[0] - a[0]) / (many - few) for a, b in zip(*runs, strict=True)]
        memory = [round(median(most for _, most in each)) for each in runs]
        row = {"loop": name, "images": case.sizes, "cpu_ms_per_image": round(1000 * median(each), 3), "peak_mb": memory}
        rows.append({**row, "rounds": rounds, "all_ms": [round(1000 * one, 3) for one in each]})
    for row in rows:
        row["of_plain"] = round(rows[0]["cpu_ms_per_image"] / row["cpu_ms_per_image"], 3)
        row |= {"target": case.targets.get(row["loop"]), "model": case.model}
    return rows


def main() -> None:
    from benchmarks.machine import benchmark_parser, keep_rows

    parser = benchmark_parser(__doc__, rounds=3)
    parser.add_argument("what", choices=("rates", "loops"))
    parser.add_argument("--data", type=Path, help="Tiny-ImageNet's shards: their folder, or one of them")
    parser.add_argument("--photos", type=Path, help="folder of JPEG photographs")
    parser.add_argument("--case", choices=CASES, action="append", help="only this one; can be repeated")
    parser.add_argument("--loop", choices=LOOPS, action="append", help="only this one beside plain; can be repeated")
    given = parser.parse_args()
    if given.data is None:
        parser.error(f"{given.what} needs --data")
    if given.what == "rates":
        if given.photos is None:
            parser.error("rates needs --photos")
        rates = json.dumps(measure_rates(given.photos, given.data), indent=1)
        print(rates)
        if not given.dry:
            RATES.write_text(f"{rates}\n", encoding="utf-8")
        return
    cases = [CASES[name] for name in given.case or CASES]
    loops = list(dict.fromkeys(("plain", *(given.loop or LOOPS))))
    rows = (row for case in cases for row in measure_loops(given.data, given.rounds, loops, case))
    keep_rows("scale", rows, dry=given.dry)


if __name__ == "__main__":
    main()
