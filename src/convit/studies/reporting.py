"""What a study leaves to read: results, table and figure, each written whole."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from convit.studies.figures import draw
from convit.studies.scores import Scores
from convit.studies.study import Study
from convit.studies.tables import as_markdown
from convit.training.plots import save_figure


def write_report(study: Study, scores: Scores, output: Path, command: str) -> None:
    """Write `results.json`, `table.md`, `plot.svg` and `plot.png`; runs that are not done yet are left open in them.

    Raises:
        OSError: one of them cannot be written.
    """
    machine = describe_machine()
    results = [result.to_dict() for result in scores.results]
    write_json(
        output / "results.json", {"study": study.name, "command": command, "machine": machine, "results": results}
    )
    replace_text(output / "table.md", as_markdown(study, scores, command, machine))
    if scores.results:
        figure = draw(study, scores)
        for suffix in ("svg", "png"):
            save_figure(figure, output / f"plot.{suffix}", overwrite=True)


def describe_machine() -> str:
    """Device, threads and versions, in a line."""
    threads = torch.get_num_threads()
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{platform.machine()} CPU, {os.cpu_count()} cores, {threads} thread{'s' * (threads != 1)}"
    )
    return f"{device}; convit {version('convit')}, torch {version('torch')}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file whole or not at all."""
    replace_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
