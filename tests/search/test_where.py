"""Conditions are comparisons of known columns; everything else is refused in one line, and nothing is computed."""

import pytest

from convit.search.store import Store
from convit.search.where import parse_where
from tests.search.conftest import row_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Ten rows, 0 to 9 pixels wide, of cats and dogs; the last has no label."""
    made = Store(tmp_path_factory.mktemp("db"), 2, create=True)
    labels = [*("cat", "dog") * 4, "cat", None]
    made.put([row_of(f"it's {n}.jpg", size=10**10, width=n, label=label) for n, label in enumerate(labels)])
    return made


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("width >= 7", [7, 8, 9]),
        ("label = 'cat' AND Width > 3", [4, 6, 8]),
        ("label is null or width == 0", [0, 9]),
        ("label IS NOT NULL AND NOT (label <> 'dog')", [1, 3, 5, 7]),
        ("width IN (1, 2,3) and label not in ('dog')", [2]),
        ("width not between 1 and 8", [0, 9]),
        ("path like '%s 7%'", [7]),
        ("path = 'it''s 3.jpg'", [3]),
        ("label = 'dog' OR width < 3 AND label = 'cat'", [0, 1, 2, 3, 5, 7]),
        ("(label = 'dog' OR width < 3) AND label = 'cat'", [0, 2]),
        ("size >= 10000000000 and width < 2", [0, 1]),
        ("width = -1 or height > 99999999999", []),
        ("label = 'x; DROP TABLE images --'", []),
    ],
)
def test_comparisons_pick_rows(store: Store, where: str, expected: list[int]) -> None:
    assert sorted(store.read(["width"], parse_where(where)).column("width").to_pylist()) == expected


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("length(repeat(path, 100000000)) > 0", "'length' is not a column"),
        ("label = $1", "'$1' is not part of one"),
        ("label = repeat('a', 9)", "label is text, but 'repeat' is not in single quotes"),
        ("CAST(label AS INT) > 0", "'CAST' is not a column"),
        ("1 / (width - 1) > 0", "'/' is not part of one"),
        ("labl = 'cat'", "'labl' is not a column"),
        ("label ===  'a'", "label is text, but '=' is not in single quotes"),
        ("label", "its end stands where IN or BETWEEN or LIKE or ="),
        ("", "'its end' is not a column"),
        ("width = '5'", "width is a whole number, but \"'5'\" is none"),
        ("width = 99999999999999999999", "is none"),
        ("width > 1 width < 5", "'width' follows where it should end"),
        ("width > 3.5", "width is a whole number, but '3.5' is none"),
        ("width IN ()", "width is a whole number, but ')' is none"),
        ("width like '5'", "'like' stands where IN or BETWEEN"),
        ('label = "cat"', "'\"cat\"' is not part of one"),
        ("label = 'cat", '"\'cat" is not part of one'),
        ("(width = 1", "its end stands where )"),
        ("NOT " * 60 + "width = 1", "it is nested more than 50 deep"),
        ("(" * 3000, "it is nested more than 50 deep"),
        ("width IN (" + "1," * 9000 + "1)", "it is longer than 10,000 characters"),
        ("vector = 1", "'vector' is not a column"),
        ("label = 'a\x1b[2J' +", "'+' is not part of one"),
    ],
)
def test_everything_else_is_refused_in_one_line(where: str, reason: str) -> None:
    with pytest.raises(ValueError, match="is not a condition over path, sha256, label, size, mtime_ns") as error:
        parse_where(where)
    assert reason in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400
