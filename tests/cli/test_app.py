"""The command itself: help, version, and what is said to somebody who mistyped."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from convit.cli import main
from convit.cli.commands import COMMANDS


def test_the_installed_script() -> None:
    script = Path(sys.executable).with_name("convit")
    run = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"convit {version('convit')} (torch {version('torch')}, Python 3.")
    assert run.stderr == ""


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, (_, _, summary) in COMMANDS.items():
        assert f"{name} " in shown
        assert summary in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: convit {command} ")
    assert "--debug" in shown


def test_help_offers_exported_folders_where_they_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    offering = set[str]()
    for command in COMMANDS:
        main([command, "--help"])
        if "exported folder" in " ".join(capsys.readouterr().out.split()):
            offering.add(command)
    how_to = (Path(__file__).parents[2] / "docs" / "how_to" / "run_without_torch.md").read_text("utf-8")
    taken = how_to.partition("as a model in most places:")[2].partition(", and `Classifier`")[0]
    assert offering == {*re.findall(r"`(\w+)`", taken), "info"}


@pytest.mark.parametrize(
    "arguments", [("models", "--format", "csv"), ("info", "convit_tiny"), ("plan", "--images", "9")]
)
def test_a_hyphen_is_standard_output(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments]) == 0
    shown = capsys.readouterr().out
    assert main([*arguments, "--output", "-"]) == 0
    assert capsys.readouterr().out == shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        *((("explain", "a.jpg", "-o", "-"), "output"), (("train", "a.yaml", "-o", "-"), "output")),
        *((("plot", "runs/a", "-o", "-"), "output"), (("finetune", "photos", "-o", "-"), "output")),
        *((("export", "convit_tiny", "-o", "-"), "output"), (("benchmark", "-o", "-"), "output")),
        *((("evaluate", "photos", "--report", "-"), "report"), (("probe", "photos", "--report", "-"), "report")),
        *((("search", "a.jpg", "--db", "x", "--html", "-"), "html"), (("duplicates", "x", "--html", "-"), "html")),
        (("index", "photos", "--db", "-"), "db"),
    ],
)
def test_a_hyphen_is_no_file(
    arguments: tuple[str, ...],
    option: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments]) == 2
    said = f"convit: error: --{option} is '-', but standard output takes no such file or folder; name one\n"
    assert capsys.readouterr().err == said
    assert list(tmp_path.iterdir()) == []


def test_no_arguments_show_the_help_and_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert "Commands:" in written.err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["clasify", "a.jpg"], ["no such command: clasify", "did you mean classify?", "'convit --help'"]),
        (["xyz"], ["no such command: xyz", f"there are {', '.join(COMMANDS)}"]),
        (["classify", "a.jpg", "--modle", "x"], ["No such option: --modle", "--model", "'convit classify --help'"]),
        (["evaluate", "--compare", "a.json"], ["--compare", "2 arguments", "'convit evaluate --help'"]),
        (["classify", ""], ["argument 2, '', is empty"]),
        (["index", "photos", "--db="], ["argument 3, '--db=', is empty"]),
        (["classify", "a.jpg", "--output", ""], ["argument 4, '', is empty"]),
        (["classify"], ["Missing argument 'PATH'", "'convit classify --help'"]),
        (["classify", "a.jpg", "--top-k", "0"], ["--top-k", "1"]),
        (["classify", "a.jpg", "--batch-size", "many"], ["--batch-size", "integer"]),
        (["classify", "a.jpg", "--precision", "fp7"], ["--precision", "fp7", "bf16", "int8"]),
        (["classify", "a.jpg", "--format", "npz"], ["--format", "npz", "parquet"]),
        (["classify", "a.jpg", "--img-size", "2x2x2"], ["--img-size", "2x2x2", "HEIGHTxWIDTH"]),
    ],
)
def test_usage_errors_are_one_line(arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("convit: error: ")
    assert written.err.count("\n") == 1
    for part in parts:
        assert part in written.err
