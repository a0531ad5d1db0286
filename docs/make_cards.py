"""Puts trained weights into the package, measures them there, and writes their model card.

    python docs/make_cards.py adopt RUN NAME       copy weights, log and recipe of a `convit train` run into the package
                                                   (--continued: the run started from NAME's weights as they are there)
    convit evaluate HELD_OUT --weights FILE --calibrate    first, if at all: fit a temperature, kept in the file
    python docs/make_cards.py measure NAME DATA    run `convit evaluate` on DATA, keep its JSON, write the card
    python docs/make_cards.py card NAME            write the card again; --check only says whether it is up to date

NAME is a weight set such as convit_nano_patch4_32.cifar10; DATA is what `convit evaluate` takes. Beside
`<name>.safetensors` stand `<name>.json` (what was measured), `<name>.md` (the card), `<name>.recipe.yaml`,
`<name>.environment.yaml` and `<name>.log.jsonl` (how it was trained). No figure in a card is typed in: they come from
these files.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from documents import keep_json, parser_of, read_json, write_or_check

from convit.output.text import read_lines
from convit.weights.model_card import Sources
from convit.weights.model_card import render_card as card_text
from convit.weights.weight_sets import BUNDLED_FOLDER

HERE = Path(__file__).resolve().parent
INTRO = (
    "A small ConViT that ships inside the `convit` package, so that a machine without a hub can label and embed images "
    "at once.\nIt was trained from scratch by this project; no weights, teacher or stem of others went into it."
)
TRAINING_FILES = {
    "weights.safetensors": ".safetensors",
    "recipe.yaml": ".recipe.yaml",
    "environment.yaml": ".environment.yaml",
    "log.jsonl": ".log.jsonl",
}


def adopt(run: Path, name: str, folder: Path = BUNDLED_FOLDER, *, continued: bool = False) -> None:
    """Copy what a finished training run left into the package.

    Args:
        run: the run's folder.
        name: the weight set's name.
        folder: where bundled files live.
        continued: the run started from the weights that it replaces; its epochs are counted on from theirs.

    Raises:
        FileNotFoundError: the run has not finished, or is no run of `convit train`.
    """
    missing = [source for source in TRAINING_FILES if not (run / source).is_file()]
    if missing:
        raise FileNotFoundError(f"{run} lacks {', '.join(missing)}; let `convit train` finish, or name its --output")
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log.jsonl"
    earlier = read_lines(log) if continued else []
    for source, suffix in TRAINING_FILES.items():
        shutil.copyfile(run / source, folder / f"{name}{suffix}")
    if earlier:
        counted = {count: earlier[-1][count] for count in ("epoch", "step")}
        later = [{**line, **{count: counted[count] + line[count] for count in counted}} for line in read_lines(log)]
        log.write_text("".join(f"{json.dumps(line)}\n" for line in (*earlier, *later)), encoding="utf-8")


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
    evaluation: dict[str, Any] = {**read_json(output), "model": name}
    keep_json(output, evaluation, indent=None)  # a confusion matrix of 200 classes takes 75,000 lines
    return evaluation


def write_card(name: str, folder: Path = BUNDLED_FOLDER, *, check: bool = False) -> int:
    """Write the model card from the files beside it, or `check` it; gives the exit code, 1 where it is out of date."""
    command = f"python docs/make_cards.py card {name}"
    return write_or_check(folder / f"{name}.md", render_card(name, folder), command, check=check)


def render_card(name: str, folder: Path = BUNDLED_FOLDER) -> str:
    """Give the text of a model card.

    Raises:
        FileNotFoundError: one of the files that it is made from is missing, or the data set has no note in
            docs/data_sets.
    """
    note = (HERE / "data_sets" / f"{name.partition('.')[2]}.md").read_text(encoding="utf-8")
    notes = {"intro": INTRO, **_sections(note)}
    notes["measured_note"] += f"\n\nTo measure again: `python docs/make_cards.py measure {name} DATA`."
    every_epoch = f"Nothing was chosen on test images. `{name}.log.jsonl` has every epoch."
    notes["training_note"] = f"{every_epoch}\n{notes['training_note']}"
    sources = Sources(
        evaluations=[read_json(folder / f"{name}.json")],
        log=read_lines(folder / f"{name}.log.jsonl"),
        recipe=(folder / f"{name}.recipe.yaml").read_text(encoding="utf-8"),
        environment=(folder / f"{name}.environment.yaml").read_text(encoding="utf-8"),
        use=f'```python\nmodel = convit.create_model("{name}", pretrained=True)\n```',
        notes=notes,
    )
    return card_text(name, folder / f"{name}.safetensors", sources)


def _sections(note: str) -> dict[str, str]:
    """The parts of a data set's note, by their `## heading` as a template name."""
    parts = [part.partition("\n") for part in note.split("\n## ")[1:]]
    return {title.strip(): text.strip() for title, _, text in parts}


def main() -> int:
    """Run the tool; 1 where `card --check` finds the card out of date."""
    parser = parser_of(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    adopting = commands.add_parser("adopt")
    adopting.add_argument("run", type=Path)
    adopting.add_argument("name")
    adopting.add_argument("--continued", action="store_true")
    measuring = commands.add_parser("measure")
    measuring.add_argument("name")
    measuring.add_argument("data")
    writing = commands.add_parser("card")
    writing.add_argument("name")
    writing.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if given.command == "adopt":
        adopt(given.run, given.name, continued=given.continued)
        return 0
    if given.command == "measure":
        measure(given.name, given.data)
    return write_card(given.name, check=given.command == "card" and given.check)


if __name__ == "__main__":
    sys.exit(main())
