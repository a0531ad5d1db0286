"""Which class of the model a label means, and what is refused."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from convit.data import ClassName
from convit.evaluation import match_classes
from convit.weights import class_names

IMAGENET = class_names("imagenet1k")


def _data(classes: Sequence[str | ClassName] | None, labels: Sequence[int] | None = None, kind: str = "folder") -> Any:
    named = None if classes is None else [ClassName(each) if isinstance(each, str) else each for each in classes]
    chosen = labels if labels is not None else range(len(named or ()))
    return SimpleNamespace(
        kind=kind, classes=named, distinct_labels=chosen, source="the sub-folders of data", restricted=False
    )


@pytest.mark.parametrize(
    ("classes", "names", "expected"),
    [
        (["cat", "dog"], ("dog", "bird", "cat"), [2, 0]),
        (["Egyptian_cat", "tabby"], ("tabby", "Egyptian cat"), [1, 0]),
        (["0", "10", "2"], tuple("abcdefghijk"), [0, 10, 2]),
        (["000", "001"], None, [0, 1]),
        (["n02123045", "n01440764"], IMAGENET, [281, 0]),
        (["2", "1"], ("1", "2"), [1, 0]),  # names go before numbers
        ([ClassName("some cat", "n02123045")], IMAGENET, [281]),
        (["01", "02", "3"], ("1", "2", "3"), [0, 1, 2]),  # numbers that are names
        (["007", "12"], ("12", "7"), [1, 0]),
        (["A", "b"], ("B", "A", "a", "b"), [1, 3]),  # the very names go first
        (["A", "DOG"], ("a", "A", "dog"), [1, 2]),
        (["cafe\u0301"], ("tea", "caf\u00e9"), [1]),
        (["caf\u00e9", "cafe\u0301"], ("cafe\u0301", "caf\u00e9"), [1, 0]),
        (["1", "2"], None, [0, 1]),
        (["class 1", "class_0"], None, [1, 0]),  # as results call classes without names
        (["one", "other"], None, [0, 1]),  # nothing is known of the model's classes: sorted order
    ],
)
def test_rules(classes: list[str | ClassName], names: tuple[str, ...] | None, expected: list[int]) -> None:
    assert match_classes(_data(classes), names, len(names or "ab")) == expected


def test_a_part_of_the_classes_is_enough() -> None:
    assert match_classes(_data(["rest", "dog", "cat"], labels=[1, 2]), ("cat", "dog"), 2)[1:] == [1, 0]


def test_shards_without_names_hold_the_models_numbers() -> None:
    assert match_classes(_data(None, [0, 2], "shards"), ("a", "b", "c"), 3)[2] == 2


def test_numbers_without_names_are_classes_that_are_called_so() -> None:
    assert match_classes(_data(None, [0, 2], "parquet"), ("2", "0", "5"), 3)[::2] == [1, 0]
    assert match_classes(_data(None, [0, 2], "parquet"), ("0", "1", "2"), 3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("data", "names", "count", "message"),
    [
        (_data(None, [0, 1], "parquet"), ("0", "2", "5"), 3, r"'1' is none .*\(0, 2, 5\); the data have 0, 1;"),
        (
            _data(["cat", "dgo"]),
            ("cat", "dog"),
            2,
            r"in the sub-folders of data, 'dgo' is none of the model's 2 classes \(cat, dog\); the data have cat, dgo;",
        ),
        (_data(["v", "w", "x", "y", "z"]), ("cat",) * 5, 5, "'v', 'w', 'x' and 2 more.*name the sub-folders by"),
        (
            _data(["a", "b"]),
            None,
            3,
            "'a', 'b' are none of the model's 3 classes; the data have a, b; name the sub-folders",
        ),
        (_data(["cat", "Cat"]), ("cat", "dog"), 2, "two that mean the same class"),
        (_data(["0", "1", "2"]), ("1", "2", "3"), 3, r"'0' is none .*\(1, 2, 3\); the data have 0, 1, 2;"),
        (_data(["001", "2"]), ("1", "01", "2"), 3, "'001' is none of the model's 3 classes"),
        (_data(["CAT"]), ("Cat", "cat"), 2, "'CAT' is none of the model's 2 classes"),
        (_data(["cat"]), ("cat", "cat"), 2, "'cat' is none of the model's 2 classes"),
        (_data(["01", "1"]), ("1", "2"), 2, "two that mean the same class"),
        (_data(["01", "02"]), ("ash", "elm", "oak"), 3, "are called 01, 02, but the model's classes count from 0"),
        (
            _data(["1", "2"], kind="parquet"),
            ("ash", "elm", "oak"),
            3,
            "called 1, 2, but the model's classes count",
        ),
        (_data(["1", "2", "3"], kind="list"), ("ash", "elm", "oak"), 3, "label 3, but the model has 3 classes"),
        (_data(["7"]), ("a", "b"), 2, "'7' is none of the model's 2 classes"),
        (
            _data(None, [0, 12], "shards"),
            None,
            10,
            r"label 12, but the model has 10 classes \(0 to 9\); choose a model",
        ),
        (_data(["x"], kind="shards"), ("a",), 1, "correct that file, or remove it"),
    ],
)
def test_what_does_not_fit_is_refused(data: Any, names: tuple[str, ...] | None, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        match_classes(data, names, count)
    assert "\n" not in str(caught.value)
