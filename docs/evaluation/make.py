"""Evaluates the bundled model and keeps the result in docs/evaluation.

    python docs/evaluation/make.py measure DATA [--split test]    figures, plots and a comparison, as files there
    python docs/evaluation/make.py draw                           the page in a browser, of public-domain photographs
    python docs/evaluation/make.py write                          README.md from these files; --check only compares

The first two write README.md too. DATA is what `convit evaluate` takes. No picture of the data set is kept: the page
with the worst mistakes is shown on the demo's photographs (examples/photos, public domain), cut into pieces. The
screenshot needs Debian's chromium.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from documents import cut_photographs, keep_json, read_json, run_convit, run_tool, take_screenshot

DOCS = Path(__file__).resolve().parent
MODEL = "convit_mini_patch8_64.tiny_imagenet"
PLOTS = ("reliability.png", "confusion.png", "per_class.png")
PHOTOGRAPHS = {"tabby": "cat", "espresso": "coffee", "military uniform": "uniform"}
PIECES = 2  # across and down, that each photograph is cut into
HEIGHT = 2250  # of the screenshot, pixels


def measure(data: str, split: str | None) -> None:
    """Evaluate as it is and with mirror images, and compare the two."""
    options = [*(["--split", split] if split else []), "--model", MODEL, "--device", "cpu"]
    with tempfile.TemporaryDirectory() as folder:
        report, flipped = Path(folder) / "report", Path(folder) / "mirrored.json"
        run_convit("evaluate", data, *options, "--report", report)
        run_convit("evaluate", data, *options, "--tta", "flip", "-o", flipped)
        whole = report / "evaluation.json"
        as_it_is = whole.rename(Path(folder) / "as-it-is.json")
        run_convit("evaluate", "--compare", as_it_is, flipped, "-o", DOCS / "comparison.json", "--overwrite")
        for name in PLOTS:
            shutil.copyfile(report / name, DOCS / name)
        # names of the data set's images are of no use here
        figures = {name: value for name, value in read_json(as_it_is).items() if name != "images"}
        keep_json(DOCS / "evaluation.json", figures, indent=None)
        comparison = read_json(DOCS / "comparison.json")
        for side in ("first", "second"):
            comparison[side]["file"] = Path(comparison[side]["file"]).name
        comparison["verdict"] = comparison["verdict"].replace(f"{folder}/", "")
        keep_json(DOCS / "comparison.json", comparison)


def draw() -> None:
    """Show the page of an evaluation in a browser, and keep what is seen."""
    with tempfile.TemporaryDirectory() as folder:
        photographs, report = Path(folder) / "photographs", Path(folder) / "report"
        for label, number, piece in cut_photographs(PHOTOGRAPHS, PIECES):
            (photographs / label).mkdir(parents=True, exist_ok=True)
            piece.save(photographs / label / f"{PHOTOGRAPHS[label]}_{number:02}.jpg")
        run_convit("evaluate", str(photographs), "--model", MODEL, "--device", "cpu", "--report", str(report))
        take_screenshot(report / "index.html", DOCS / "page.png", height=HEIGHT)


def render() -> str:
    """The text of README.md: no figure in it is typed in."""
    evaluation, comparison = read_json(DOCS / "evaluation.json"), read_json(DOCS / "comparison.json")
    files = ", ".join(file["name"] for file in evaluation["data"]["files"])
    rows = "\n".join(
        f"| {row['name']} | {row['count']:,} | {row['top1']:.1f} | {row['top5']:.1f} | "
        f"{'' if row['mistaken_for'] is None else evaluation['class_names'][row['mistaken_for']]} |"
        for row in sorted(evaluation["per_class"], key=lambda row: row["top1"])
    )
    return f"""# The bundled model's evaluation

Made by `docs/evaluation/make.py` from the JSON files beside it: `{evaluation["model"]}` (weights sha256
`{evaluation["weights_sha256"][:16]}…`) on {evaluation["count"]:,} images ({files},
sha256 `{evaluation["data_sha256"][:16]}…`), {evaluation["precision"]}, {evaluation["date"][:10]}.

    convit evaluate {files} --model {evaluation["model"]} --report report/

| figure | value | 95 % interval (bootstrap) |
| --- | ---: | --- |
| top-1 | {evaluation["top1"]:.2f} % | {_interval(evaluation, "top1", ".2f")} |
| top-5 | {evaluation["top5"]:.2f} % | {_interval(evaluation, "top5", ".2f")} |
| loss | {evaluation["loss"]:.4f} | {_interval(evaluation, "loss", ".4f")} |
| mean of the classes' top-1 | {evaluation["mean_class_top1"]:.2f} % | |
| expected calibration error | {evaluation["ece"]:.2f} % | |

![How often the model is right where it says how sure it is](reliability.png)

| class | images | top-1 (%) | top-5 (%) | mostly mistaken for |
| --- | ---: | ---: | ---: | --- |
{rows}

![Which class is taken for which](confusion.png)

![Accuracy of each class](per_class.png)

## Is averaging with the mirror image better?

    convit evaluate {files} --model {evaluation["model"]} --output as-it-is.json
    convit evaluate {files} --model {evaluation["model"]} --tta flip --output mirrored.json
    convit evaluate --compare as-it-is.json mirrored.json

| | as it is | with mirror images | difference | 95 % interval |
| --- | ---: | ---: | ---: | --- |
| top-1 (%) | {_compared(comparison, "top1", ".2f")} |
| top-5 (%) | {_compared(comparison, "top5", ".2f")} |
| loss | {_compared(comparison, "loss", ".4f")} |
| right alone | {comparison["only_first"]} | {comparison["only_second"]} | | {_chance(comparison)} |

`convit`: {comparison["verdict"]}.

## The page

`--report` also writes a page with the worst mistakes. Here it is in a browser, of the demo's photographs
(public domain), cut into pieces:

![The page of an evaluation, with its plots and the worst mistakes as thumbnails](page.png)
"""


def _interval(evaluation: dict[str, Any], name: str, form: str) -> str:
    low, high = evaluation["intervals"][name]
    return f"{low:{form}} to {high:{form}}"


def _compared(comparison: dict[str, Any], name: str, form: str) -> str:
    low, high = comparison["intervals"][name]
    values = f"{comparison['first'][name]:{form}} | {comparison['second'][name]:{form}}"
    return f"{values} | {comparison['differences'][name]:+{form}} | {low:+{form}} to {high:+{form}}"


def _chance(comparison: dict[str, Any]) -> str:
    return f"p = {comparison['p_value']:.2g} (exact McNemar)"


if __name__ == "__main__":
    sys.exit(run_tool(DOCS / "README.md", __doc__, render, measure, draw))
