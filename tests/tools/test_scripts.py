"""The scripts of the repository read their command line: `--help` answers and does nothing."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from docs import make_reliability

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    file for folder in ("docs", "tools", "benchmarks", "studies") for file in (ROOT / folder).rglob("*.py")
    if 'if __name__ == "__main__"' in file.read_text("utf-8")
)  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(ROOT)))
def test_every_script_reads_its_command_line(script: Path) -> None:
    text = script.read_text("utf-8")
    assert "sys.argv[" not in text or "main(sys.argv[1:])" in text
    parsers = ("ArgumentParser(", "parser_of(", "run_tool(", "write_page(")
    parsers += ("benchmark_parser(__doc__", "from studies.command import")
    assert any(parser in text for parser in parsers)


@pytest.mark.parametrize("name", ["docs/make_readme.py", "docs/make_reliability.py", "tools/count.py"])
def test_help_writes_nothing(name: str) -> None:
    page = ROOT / ("README.md" if "readme" in name else "docs/reliability.md")
    before = page.stat().st_mtime_ns if page.exists() else None
    done = subprocess.run([sys.executable, name, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: {Path(name).name}")
    assert (page.stat().st_mtime_ns if page.exists() else None) == before


@pytest.mark.parametrize(
    "command",
    [
        "make_reliability.py",
        "exports/make.py",
        "probes/make.py",
        *(f"{folder}/make.py write" for folder in ("analysis", "evaluation", "finetuning", "identities")),
    ],
)
def test_a_page_is_what_its_script_writes(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script, *arguments = command.split()
    monkeypatch.setattr(sys, "argv", [script, *arguments, "--check"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "docs" / script), run_name="__main__")
    assert ended.value.code == 0


def test_exports_measured_again_replace_their_rows_and_new_ones_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    replaced = runpy.run_path(str(ROOT / "docs/exports/make.py"), run_name="made")["replaced"]
    about = {"opset": None, "precision": "fp32", "input": "uint8", "outputs": "both", "axes": "batch"}
    one, two, own = ({**about, "format": name, "images_per_second": 5.0} for name in ("one", "two", "own"))
    kept = {"rows": [one, two], "apart": [], "machine": {"device": "a", "cpu_flags": ["avx2"]}, "images": 9}
    faster, refused = {**one, "images_per_second": 7.0}, {**about, "format": "three", "refused": "no"}
    new = {"rows": [refused, faster, {**own, "torch": "2"}], "machine": kept["machine"]}
    assert replaced(kept, new) == {**kept, "rows": [faster, two, refused], "apart": [{**own, "torch": "2"}]}
    there = replaced(kept, {**new, "machine": {"device": "a", "cpu_flags": ["avx512f"]}})
    assert there["rows"] == [{**one, "images_per_second": None}, two, refused]


def test_a_part_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_reliability, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(make_reliability, "PAGE", tmp_path / "page.md")
    columns, rows = ("command", "kills", "faults"), [("embed", 1200, 0)]
    make_reliability.keep("kill", "tools/kill.py", "Killed.", columns, rows, ("Well.",), tmp_path / "kept")
    assert make_reliability.main([]) == make_reliability.main(["--check"]) == 0
    page = (tmp_path / "page.md").read_text()
    table = "| command | kills | faults |\n| --- | ---: | ---: |\n| embed | 1,200 | 0 |"
    assert f"## Killed runs\n\nKilled.\n\n{table}\n\nWell.\n\n`tools/kill.py`" in page
    assert "Mutated" not in page
    (tmp_path / "page.md").write_text("other")
    assert make_reliability.main(["--check"]) == 1
