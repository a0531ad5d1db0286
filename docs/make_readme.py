"""Writes the tables of speed and of models into README.md from what is counted and measured.

python docs/make_readme.py [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from documents import ROOT, fill_section, read_json, write_page

from convit.cli.models import Entry, entries
from convit.weights.published import DATA_SETS

README = ROOT / "README.md"
MARK = "<!-- {}: made by docs/make_readme.py -->\n"
MODELS = ("convit_tiny", "convit_small", "convit_base")


def speed() -> str:
    """Times as many images per second as timm's model in the same precision, batch 8, on each measured processor."""
    columns = " | ".join(f"`{model}`" for model in MODELS)
    lines = [f"| processor | precision | {columns} |", f"| --- | --- |{' ---: |' * len(MODELS)}"]
    for path in sorted((ROOT / "benchmarks" / "results").glob("targets-infer-*.json")):
        run = read_json(path)
        machine = f"{run['machine']['device']}, {run['machine']['threads']} threads"
        found = {(row["name"], row["what"]): row for row in run["rows"]}
        for precision in ("fp32", "bf16"):
            rows = [found[f"{model}, {precision}, batch 8", f"images/s over timm:{model}"] for model in MODELS]
            ours = rows[0]["ours"]["computed_in"]
            computed = precision if ours == precision else f"{precision}; ours in {ours}, which is faster there"
            ratios = " | ".join(f"{row['found']:.2f} x" for row in rows)
            lines.append(f"| {machine} | {computed} | {ratios} |")
    return "\n".join([*lines, ""])


def models() -> str:
    """The rows of `convit models` as a Markdown table, with who measured the accuracies below it."""
    rows = entries()
    lines = [
        "| name | parameters (M) | GMACs | activations (M) | image | top-1 (%) | top-5 (%) | weights |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        *(_line(row) for row in rows),
        "",
    ]
    for who in dict.fromkeys(row.measured_by for row in rows if row.measured_by):
        names = ", ".join(f"`{row.name}`" for row in rows if row.measured_by == who)
        lines.append(f"Accuracy of {names}: {who}.\n")
    return "\n".join([*lines, *_elsewhere(rows)])


def _elsewhere(rows: Sequence[Entry]) -> list[str]:
    """What others published of ImageNet's relatives, as a table with its source."""
    found = {row.name: {each.data: each for each in row.published if each.data != "imagenet"} for row in rows}
    found = {name: figures for name, figures in found.items() if figures}
    data = list(dict.fromkeys(name for figures in found.values() for name in figures))
    sources = sorted({each.source for figures in found.values() for each in figures.values()})
    return [
        f"Top-1 (%) on ImageNet's relatives, as others published it and not measured here ({', '.join(sources)}):",
        "",
        f"| name | {' | '.join(DATA_SETS[name] for name in data)} |",
        f"| --- |{' ---: |' * len(data)}",
        *(
            f"| `{name}` | {' | '.join(_percent(figures[each].top1) for each in data)} |"
            for name, figures in found.items()
        ),
        "",
    ]


def _line(row: Entry) -> str:
    height, width = row.input_size[1:]
    weights = row.weights_from if row.cached is not None else ("-" if not row.weights_from else "")
    return (
        f"| `{row.name}` | {row.parameters / 1e6:.2f} | {row.gmacs:.2f} | {row.activations / 1e6:.2f} | "
        f"{height} x {width} | {_percent(row.top1)} | {_percent(row.top5)} | {weights} |"
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def filled(text: str) -> str:
    """The README with its tables made anew."""
    for section, content in (("speed", speed()), ("models", models())):
        text = fill_section(text, MARK.format(section), f"<!-- /{section} -->", f"\n{content}\n")
    return text


def render() -> str:
    """The README with its tables made anew."""
    return filled(README.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(write_page(README, __doc__, render, "python docs/make_readme.py"))
