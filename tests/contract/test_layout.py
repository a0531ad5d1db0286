"""What a reader may rely on: names that say something, files that fit in a head, modules that say what they are for."""

import ast
from pathlib import Path

import convit

PACKAGE = Path(convit.__file__).parent
SAYS_NOTHING = {"utils", "util", "common", "helpers", "helper", "core", "misc", "base", "tools", "lib"}
MOST_LINES = 330


def _files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_no_name_says_nothing() -> None:
    parts = {part.removesuffix(".py").strip("_") for file in _files() for part in file.relative_to(PACKAGE).parts}
    assert parts & SAYS_NOTHING == set()


def test_files_fit_in_a_head() -> None:
    long = {str(file.relative_to(PACKAGE)): lines for file in _files() if (lines := _lines(file)) > MOST_LINES}
    assert long == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [str(file) for file in _files() if not ast.get_docstring(ast.parse(file.read_text("utf-8")))]
    assert silent == []


def test_files_are_hashed_in_one_place() -> None:
    found = [str(file.relative_to(PACKAGE)) for file in _files() if "file_digest(" in file.read_text("utf-8")]
    assert found == ["output/files.py"]


def test_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def _lines(file: Path) -> int:
    return len(file.read_text("utf-8").splitlines())
