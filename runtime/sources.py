"""The files of `convit_runtime`, made from those of `convit`: the same text under another name.

Taken is what `ROOTS` import, inside functions too. `own/` holds what is the runtime's own, some of it in the place of
files of the same name; packages have no `__init__.py` but a line of text, and arrays' shapes are not annotated, which
spares two dependencies.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE.parent / "src" / "convit"
ROOTS = ("cli/__init__.py", "cli/predict.py", "inference/classifier.py", "inference/embedder.py")
KEPT_PACKAGES = ("cli/__init__.py",)  # which do something


def runtime_files() -> dict[str, str]:
    """Name every file of the package, with its text.

    Raises:
        ValueError: a file imports a name from a package instead of the module that defines it.
    """
    own = {str(file.relative_to(HERE / "own")): file.read_text("utf-8") for file in (HERE / "own").rglob("*.py")}
    found: dict[str, str] = {}
    waiting = [*ROOTS, *own]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        text = own.get(name) or (SOURCES / name).read_text("utf-8")
        found[name] = text
        waiting += imported_files(ast.parse(text), name)
    packages = {f"{Path(name).parent}/__init__.py" for name in found if "/" in name}
    empty = {name: f'"""Part of convit_runtime; see `{name}` of convit."""\n' for name in packages - {*KEPT_PACKAGES}}
    return {name: renamed(text) for name, text in sorted({**found, **empty, "py.typed": ""}.items())}


def imported_files(tree: ast.Module, name: str) -> Iterator[str]:
    """The files of convit that a file imports, wherever in it; not what only those who check types import."""
    for node in walk_at_run_time(tree):
        if not isinstance(node, ast.ImportFrom) or node.module is None or node.module.split(".")[0] != "convit":
            continue
        path = "/".join(node.module.split(".")[1:])
        if (SOURCES / f"{path}.py").is_file():
            yield f"{path}.py"
            continue
        if f"{path}/__init__.py" in KEPT_PACKAGES and node.names[0].name == "main":
            continue
        for alias in node.names:
            if not (SOURCES / path / f"{alias.name}.py").is_file():
                raise ValueError(f"{name}:{node.lineno} imports {alias.name} from a package; name its module")
            yield f"{path}/{alias.name}.py"


def walk_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Every node, but for those under `if TYPE_CHECKING`."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from walk_at_run_time(child)


def renamed(text: str) -> str:
    """A file's text with `convit.room` as `convit_runtime.room`, and shapes that are not annotated."""
    rooms = "|".join(sorted(each.name for each in SOURCES.iterdir() if each.is_dir()))
    text = re.sub(rf"\bconvit(?=\.(?:{rooms})\b)", "convit_runtime", text)
    text = re.sub(r"^(\s*)from convit import", r"\1from convit_runtime import", text, flags=re.MULTILINE)
    return text.replace("from jaxtyping import", "from convit_runtime.shapes import")


def write_runtime(folder: Path) -> None:
    """Write the package's files into a folder."""
    for name, text in runtime_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
