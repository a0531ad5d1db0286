import pytest

from convit.data.locate import expand_braces


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{000..002}.tar", ["a-000.tar", "a-001.tar", "a-002.tar"]),
        ("{x,y}-{9..10}.tar", ["x-9.tar", "x-10.tar", "y-9.tar", "y-10.tar"]),
    ],
)
def test_patterns_mean_what_they_mean_in_a_shell(pattern: str, names: list[str]) -> None:
    assert expand_braces(pattern) == names


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("a-{0..2.tar", "unpaired"),
        ("a-{{0..2}}.tar", "nested"),
        ("a-{3..1}.tar", "downwards"),
        ("a-{0..50000000}.tar", "means more than 1,000,000 files; correct it"),
        ("a-{0..999}-{0..999}-{a,b}.tar", "means more than 1,000,000 files; correct it"),
        (f"a-{{0..{10**17}}}.tar", "means more than 1,000,000 files; correct it"),
    ],
)
def test_broken_patterns_are_refused(pattern: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        expand_braces(pattern)
