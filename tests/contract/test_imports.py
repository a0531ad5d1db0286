"""Imports go down only: the rooms stand on floors, and no file may reach up or sideways in a circle."""

import ast
from pathlib import Path

import convit

PACKAGE = Path(convit.__file__).parent

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


def _drawn_floors() -> list[tuple[str, ...]]:
    """The floors of the drawing in CONTRIBUTING.md, from the top; rooms on one may use each other without a circle."""
    drawing = CONTRIBUTING.read_text("utf-8").split("## Rooms")[1].split("Start reading")[0]
    lines = [line for line in drawing.splitlines() if line.startswith("    ")]
    return [tuple(line[4:32].split()) for line in lines]  # what a room does stands behind its name


FLOORS = _drawn_floors()
HEIGHT = {room: len(FLOORS) - floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# the package's own front door and `python -m convit` point at the rooms; nothing may point back at them
FRONT_DOOR = {"__init__", "__main__"}


def test_every_room_has_a_floor() -> None:
    assert {_room(file) for file in _files()} - FRONT_DOOR <= set(HEIGHT)


def test_every_room_drawn_is_there() -> None:
    assert set(HEIGHT) <= {_room(file) for file in _files()}


def test_imports_go_down() -> None:
    upward = [
        f"{file.relative_to(PACKAGE)}:{line} imports convit.{target}"
        for file, line, target in _imports()
        if _room(file) not in FRONT_DOOR and (target not in HEIGHT or HEIGHT[target] > HEIGHT[_room(file)])
    ]
    assert upward == []


def test_no_room_imports_itself_through_another() -> None:
    below = {room: set[str]() for room in HEIGHT}
    for file, _, target in _imports():
        if _room(file) in below and target != _room(file):
            below[_room(file)].add(target)
    free = {room for room, targets in below.items() if not targets}
    while True:
        # a room is free of circles once everything it imports is
        more = {room for room, targets in below.items() if targets <= free}
        if more == free:
            break
        free = more
    assert free == set(below)


def test_no_import_of_the_rival() -> None:
    """timm is what we are measured against: a test dependency, the product's only where our class takes its names."""
    for file in set(_files()) - {PACKAGE / "integrations" / "timm.py"}:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "timm"], file


def _files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports() -> list[tuple[Path, int, str]]:
    """Every (file, line, room) at which a file imports a room, wherever in the file it stands."""
    found: list[tuple[Path, int, str]] = []
    for file in _files():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            found += [(file, node.lineno, room) for room in _imported_rooms(node, file)]
    return found


def _imported_rooms(node: ast.AST, file: Path) -> list[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{file}:{node.lineno}: a relative import; the house writes them in full"
        # `from convit import data` names a room behind the import
        names = [f"convit.{alias.name}" for alias in node.names] if node.module == "convit" else [node.module or ""]
    elif isinstance(node, ast.Call) and _called(node) == "import_module" and node.args:
        names = [node.args[0].value] if isinstance(node.args[0], ast.Constant) else []
    else:
        names = []
    return [name.split(".")[1] for name in names if str(name).startswith("convit.")]


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
