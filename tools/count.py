"""Counts the package: lines, code, long files and functions, an import circle, documentation.

    python tools/count.py            one line per room, then the figures that tests/tools/test_count.py limits
    python tools/count.py --where    also every long function and undocumented name

Code lines are those with a token that is not a comment; docstrings and blank lines are left out. A function's code
lines are those of its body. An import circle is between modules; a name that a package's `__init__` hands on counts as
an import of the module that defines it; imports inside functions, and those for type checkers alone, count too.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TypeGuard

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "convit"
LONG = 40  # code lines of a function's body
_SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """A file of the package, read."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """Its dotted name."""
        parts = (PACKAGE.name, *self.path.relative_to(PACKAGE).with_suffix("").parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def lines(self) -> int:
        """All lines."""
        return len(self.text.splitlines())

    def code_lines(self) -> set[int]:
        """Numbers of the lines that hold code."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        code = {number for token in tokens if token.type not in _SILENT for number in _span(token)}
        strings = (node for node in ast.walk(self.tree) if _is_string_statement(node))
        return code - {number for node in strings for number in range(node.lineno, (node.end_lineno or 0) + 1)}


def read_sources() -> list[Source]:
    """Every .py and .pyi file of the package."""
    found = (path for path in sorted(PACKAGE.rglob("*.py*")) if path.suffix in (".py", ".pyi"))
    return [Source(path, text := path.read_text("utf-8"), ast.parse(text)) for path in found]


def long_functions(sources: list[Source]) -> list[tuple[int, str]]:
    """(code lines, place) of the functions whose body has more than `LONG` of them, the longest first."""
    found: list[tuple[int, str]] = []
    for source in sources:
        code = source.code_lines()
        for node in ast.walk(source.tree):
            if isinstance(node, Function):
                lines = len(code & set(range(node.body[0].lineno, (node.end_lineno or 0) + 1)))
                found += [(lines, f"{source.module}.{node.name}")] if lines > LONG else []
    return sorted(found, reverse=True)


def import_circle(sources: list[Source]) -> list[str]:
    """Modules of which each is imported by the next, and the last by the first; empty if there is no such circle."""
    try:
        TopologicalSorter(_imports(sources)).prepare()
    except CycleError as error:
        return error.args[1][1:]
    return []


def undocumented(sources: list[Source]) -> tuple[int, list[str]]:
    """(number of public modules, classes, functions and methods; those of them without a docstring)."""
    public: list[tuple[str, bool]] = []
    for source in sources:
        if source.path.suffix == ".py" and not source.module.rpartition(".")[2].startswith("_"):
            public.append((source.module, ast.get_docstring(source.tree) is not None))
            public += _public_names(source.tree, source.module)
    return len(public), [name for name, is_documented in public if not is_documented]


def _span(token: tokenize.TokenInfo) -> range:
    return range(token.start[0], token.end[0] + 1)


def _is_string_statement(node: ast.AST) -> TypeGuard[ast.Expr]:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _public_names(node: ast.AST, place: str) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | Function) and not child.name.startswith("_"):
            name = f"{place}.{child.name}"
            if "overload" not in map(ast.unparse, child.decorator_list):
                yield name, ast.get_docstring(child) is not None
            if isinstance(child, ast.ClassDef):
                yield from _public_names(child, name)
        elif isinstance(child, ast.If | ast.Try):
            yield from _public_names(child, place)


def _imports(sources: list[Source]) -> dict[str, set[str]]:
    """Module → modules of the package that it imports."""
    modules = {source.module for source in sources}
    handed_on = {source.module: _handed_on(source) for source in sources if source.path.stem == "__init__"}
    found: dict[str, set[str]] = {module: set() for module in modules}
    for source in sources:
        if source.path.suffix == ".pyi":
            found[source.module] |= set(handed_on[source.module].values())
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import):
                found[source.module] |= {alias.name for alias in node.names} & modules
            elif isinstance(node, ast.ImportFrom) and node.module in modules:
                known = handed_on.get(node.module, {})
                for name in (alias.name for alias in node.names):
                    inner = f"{node.module}.{name}"
                    found[source.module].add(inner if inner in modules else known.get(name, node.module))
    return {module: targets - {module} for module, targets in found.items()}


def _handed_on(source: Source) -> dict[str, str]:
    """Name → the module that a package's `__init__` takes it from."""
    found: dict[str, str] = {}
    for node in source.tree.body:
        if isinstance(node, ast.ImportFrom):
            origin = f"{source.module}.{node.module}" if node.level else node.module or ""
            found |= {alias.asname or alias.name: origin for alias in node.names}
    return found


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", action="store_true", help="also name every long function and the like")
    given = parser.parse_args()
    sources = read_sources()
    rooms: dict[str, list[int]] = {}
    for source in sources:
        parts = source.path.relative_to(PACKAGE).parts
        room = rooms.setdefault(parts[0] if len(parts) > 1 else "(top)", [0, 0, 0])
        for place, value in enumerate((1, source.lines, len(source.code_lines()))):
            room[place] += value
    print(f"{'room':14}{'files':>7}{'lines':>8}{'code':>8}")
    for name, counts in {**rooms, "all": [sum(column) for column in zip(*rooms.values(), strict=True)]}.items():
        print(f"{name:14}{counts[0]:7,}{counts[1]:8,}{counts[2]:8,}")
    longest = max(sources, key=lambda source: source.lines)
    functions, (public, silent) = long_functions(sources), undocumented(sources)
    print(f"longest file: {longest.lines} lines, {longest.path.relative_to(PACKAGE)}")
    print(f"functions over {LONG} lines of code: {len(functions)}")
    print(f"import circle: {', '.join(import_circle(sources)) or 'none'}")
    print(f"public names with a docstring: {public - len(silent)} of {public}")
    if given.where:
        print(*(f"  {lines} lines: {place}" for lines, place in functions), sep="\n")
        print(*(f"  no docstring: {name}" for name in silent), sep="\n")


if __name__ == "__main__":
    main()
