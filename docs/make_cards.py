"""Puts trained weights into the package, measures them there, and writes their model card.

    python docs/make_cards.py adopt RUN NAME       copy weights, log and recipe of a `convit train` run into the package
    convit evaluate HELD_OUT --weights FILE --calibrate    first, if at all: fit a temperature, kept in the file
    python docs/make_cards.py measure NAME DATA    run `convit evaluate` on DATA, keep its JSON, write the card
    python docs/make_cards.py card NAME            write the card again; --check only says whether it is up to date

NAME is a weight set such as convit_nano_patch4_32.cifar10; DATA is what `convit evaluate` takes. Beside
`<name>.safetensors` stand `<name>.json` (what was measured), `<name>.md` (the card), `<name>.recipe.yaml`,
`<name>.environment.yaml` and `<name>.log.jsonl` (how it was trained). No figure in a card is typed in: they come from
these files.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from string import Template
from typing import Any

from convit.weights.header import read_header, read_metadata
from convit.weights.weight_sets import BUNDLED_FOLDER

HERE = Path(__file__).resolve().parent
TRAINING_FILES = {
    "weights.safetensors": ".safetensors",
    "recipe.yaml": ".recipe.yaml",
    "environment.yaml": ".environment.yaml",
    "log.jsonl": ".log.jsonl",
}


def adopt(run: Path, name: str, folder: Path = BUNDLED_FOLDER) -> None:
    """Copy what a finished training run left into the package.

    Args:
        run: the run's folder.
        name: the weight set's name.
        folder: where bundled files live.

    Raises:
        FileNotFoundError: the run has not finished, or is no run of `convit train`.
    """
    missing = [source for source in TRAINING_FILES if not (run / source).is_file()]
    if missing:
        raise FileNotFoundError(f"{run} lacks {', '.join(missing)}; let `convit train` finish, or name its --output")
    folder.mkdir(parents=True, exist_ok=True)
    for source, suffix in TRAINING_FILES.items():
        shutil.copyfile(run / source, folder / f"{name}{suffix}")


def measure(name: str, data: str, folder: Path = BUNDLED_FOLDER) -> dict[str, Any]:
    """Measure bundled weights with the command that users have, and keep what it writes.

    Args:
        name: the weight set's name.
        data: a class folder or shards.
        folder: where bundled files live.

    Returns:
        The evaluation.

    Raises:
        subprocess.CalledProcessError: the command failed, or images could not be read; it has said why.
    """
    output = folder / f"{name}.json"
    # the file by path, so that a set can be measured before the table knows it; the JSON gets the set's name
    weights = ["--weights", str(folder / f"{name}.safetensors")]
    command = [sys.executable, "-m", "convit", "evaluate", data, *weights, "--device", "cpu", "--precision", "fp32"]
    subprocess.run([*command, "--output", str(output), "--overwrite"], check=True)
    evaluation: dict[str, Any] = {**json.loads(output.read_text(encoding="utf-8")), "model": name}
    output.write_text(json.dumps(evaluation, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return evaluation


def write_card(name: str, folder: Path = BUNDLED_FOLDER, *, check: bool = False) -> bool:
    """Write the model card from the files beside it.

    Args:
        name: the weight set's name.
        folder: where bundled files live.
        check: changes nothing.

    Returns:
        Whether the card on disk was up to date.
    """
    path, text = folder / f"{name}.md", render_card(name, folder)
    is_current = path.is_file() and path.read_text(encoding="utf-8") == text
    if not check:
        path.write_text(text, encoding="utf-8")
    return is_current


def render_card(name: str, folder: Path = BUNDLED_FOLDER) -> str:
    """Give the text of a model card.

    Raises:
        FileNotFoundError: one of the files that it is made from is missing, or the data set has no note in
            docs/data_sets.
    """
    facts = collect_facts(name, folder)
    note = (HERE / "data_sets" / f"{name.partition('.')[2]}.md").read_text(encoding="utf-8")
    for title, text in _sections(note).items():
        facts[title] = Template(text).substitute(facts)
    return Template((HERE / "model_card.md").read_text(encoding="utf-8")).substitute(facts)


def collect_facts(name: str, folder: Path) -> dict[str, str]:
    """Everything that a card says of a weight set, by the names that the template uses."""
    file = folder / f"{name}.safetensors"
    described = read_metadata(file)
    measured: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    log = [json.loads(line) for line in (folder / f"{name}.log.jsonl").read_text(encoding="utf-8").splitlines()]
    recipe = (folder / f"{name}.recipe.yaml").read_text(encoding="utf-8").strip()
    environment = (folder / f"{name}.environment.yaml").read_text(encoding="utf-8").strip()
    return {
        "name": name,
        "megabytes": f"{file.stat().st_size / 1e6:.2f}",
        "stored_as": _stored_as(file),
        "classes": ", ".join(described["classes"]),
        "trained_on": described["trained_on"],
        "terms": described["license"],
        "recipe": recipe,
        "environment": environment,
        **_architecture(described),
        **_training(described, log),
        **_measurement(measured),
        "calibration": _calibration(described.get("calibration")),
    }


def _stored_as(file: Path) -> str:
    kinds = {entry["dtype"] for name, entry in read_header(file).items() if name != "__metadata__"}
    return ", ".join(sorted({"F16": "fp16", "BF16": "bf16", "F32": "fp32"}.get(kind, kind) for kind in kinds))


def _architecture(described: dict[str, Any]) -> dict[str, str]:
    from convit.model import ConViT, ConViTConfig

    config = ConViTConfig.from_dict(described["config"])
    parameters = sum(parameter.numel() for parameter in ConViT(config).parameters())
    return {
        "parameters": f"{parameters:,}",
        "num_classes": str(config.num_classes),
        "height": str(config.image_height),
        "width": str(config.image_width),
        "patch_size": str(config.patch_size),
        "depth": str(config.depth),
        "local_layers": str(config.local_up_to_layer),
        "heads": str(config.num_heads),
        "dim": str(config.dim),
        "mean": ", ".join(map(str, described["mean"])),
        "std": ", ".join(map(str, described["std"])),
        "interpolation": str(described["interpolation"]),
        "crop_pct": str(described["crop_pct"]),
    }


def _training(described: dict[str, Any], log: list[dict[str, Any]]) -> dict[str, str]:
    recipe, last = described["recipe"], log[-1]
    averaged = f"their exponential moving average (decay {recipe['ema']['decay']})" if recipe["ema"] else "as they were"
    held_out = recipe["data"]["held_out"]
    return {
        "epochs": str(last["epoch"]),
        "hours": f"{sum(line['seconds'] for line in log) / 3600:.2f}",
        "averaging": averaged,
        "held_out": f"{held_out:,}",
        "held_out_top1": "not measured" if last.get("val_top1") is None else f"{last['val_top1']:.2f} %",
        "train_images_per_second": f"{sorted(line['images_per_second'] for line in log)[len(log) // 2]:.0f}",
        "seed": str(recipe["seed"]),
    }


def _measurement(measured: dict[str, Any]) -> dict[str, str]:
    files = measured["data"].get("files") or [{"name": measured["data"].get("name", "")}]
    return {
        "top1": f"{measured['top1']:.2f}",
        "top5": f"{measured['top5']:.2f}",
        "loss": f"{measured['loss']:.4f}",
        "count": f"{measured['count']:,}",
        "correct_top1": f"{measured['correct_top1']:,}",
        "data": ", ".join(file["name"] for file in files),
        "data_sha256": measured["data_sha256"],
        "weights_sha256": measured["weights_sha256"],
        "precision": measured["precision"],
        "date": measured["date"][:10],
        "versions": ", ".join(f"{package} {number}" for package, number in measured["versions"].items()),
    }


def _calibration(found: dict[str, Any] | None) -> str:
    if not found:
        return "Scores are not calibrated."
    return (
        f"`Classifier` and the commands divide logits by a temperature of {found['temperature']:.3f}, fitted on "
        f"{found['images']:,} images that were neither trained nor tested on (expected calibration error there "
        f"{found['ece_before']:.1f} % before, {found['ece_after']:.1f} % after); `model(images)` does not."
    )


def _sections(note: str) -> dict[str, str]:
    """The parts of a data set's note, by their `## heading` as a template name."""
    parts = [part.partition("\n") for part in note.split("\n## ")[1:]]
    return {title.strip(): text.strip() for title, _, text in parts}


def main(arguments: list[str] | None = None) -> int:
    """Run the tool; 1 where `card --check` finds the card out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    adopting = commands.add_parser("adopt")
    adopting.add_argument("run", type=Path)
    adopting.add_argument("name")
    measuring = commands.add_parser("measure")
    measuring.add_argument("name")
    measuring.add_argument("data")
    writing = commands.add_parser("card")
    writing.add_argument("name")
    writing.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    if given.command == "adopt":
        adopt(given.run, given.name)
    elif given.command == "measure":
        measure(given.name, given.data)
        write_card(given.name)
    elif not write_card(given.name, check=given.check) and given.check:
        print(f"the card of {given.name} is out of date; write it with: python docs/make_cards.py card {given.name}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
