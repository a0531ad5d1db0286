"""The counting scripts count what they say."""

import threading
from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from tools import count
from tools.count import import_circle, long_functions, read_sources, undocumented
from tools.trace_classify import trace_classify

FILES = {
    "__init__.py": '"""A package."""\n',
    "__init__.pyi": "from .one import give as give\n",
    "one.py": '''"""A module.

over several lines
"""

# a comment
from p.two import take


def give() -> str:
    """Documented."""
    text = """not a
    docstring"""

    return text  # with a comment
''',
    "two.py": "def take():\n    from p import give\n    return give\n\n\nclass _Hidden:\n    def shown(self): ...\n",
    "three.py": '"""Alone."""\nimport p.two\n\ndef long():\n    """Long."""\n' + "    x = 1\n    # no code\n" * 41,
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a few files in the place of ours."""
    for name, text in FILES.items():
        (tmp_path / "p" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "p" / name).write_text(text)
    monkeypatch.setattr(count, "PACKAGE", tmp_path / "p")
    return tmp_path / "p"


@pytest.mark.usefixtures("package")
def test_docstrings_comments_and_blank_lines_are_not_code() -> None:
    lines = {source.path.name: (source.lines, len(source.code_lines())) for source in read_sources()}
    assert lines == {
        "__init__.py": (1, 0),
        "__init__.pyi": (1, 1),
        "one.py": (15, 5),
        "two.py": (7, 5),
        "three.py": (87, 43),
    }


@pytest.mark.usefixtures("package")
def test_long_functions_are_counted_by_the_code_of_their_body() -> None:
    assert long_functions(read_sources()) == [(41, "p.three.long")]


@pytest.mark.usefixtures("package")
def test_circles_are_found_through_functions_and_stubs() -> None:
    assert sorted(import_circle(read_sources())) == ["p.one", "p.two"]


@pytest.mark.usefixtures("package")
def test_public_names_without_a_docstring_are_named() -> None:
    assert undocumented(read_sources()) == (7, ["p.two", "p.two.take"])


def test_the_package_keeps_its_limits() -> None:
    sources = read_sources()
    assert len(sources) <= 267
    assert max(source.lines for source in sources) <= 330
    assert len(long_functions(sources)) <= 4
    assert import_circle(sources) == []
    assert undocumented(sources)[1] == []


def test_a_photographs_way_is_counted(tmp_path: Path) -> None:
    Image.fromarray(data.chelsea()).save(tmp_path / "cat.jpg")
    found = trace_classify(tmp_path / "cat.jpg")
    assert ("cli/predict.py", "classify") in found.preparation
    assert ("images/opening.py", "opened") in found.way
    assert any(file.startswith("output/") for file, _ in found.way)
    assert ("model/convit.py", "ConViT.forward") in found.layers
    assert {file.partition("/")[0] for file, _ in found.way} & {"model", "optimization"} == set()
    assert threading.getprofile() is None
    assert len(found.way) <= 25
    assert len({file for file, _ in found.way}) <= 14
