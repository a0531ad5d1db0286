"""What the benchmark of the command's start says of its measurements."""

from pathlib import Path

from benchmarks import startup


def times(median: float) -> dict[str, float]:
    return {"median": median, "low": median, "high": median, "least": median}


def test_the_limit_is_a_multiple_and_what_comes_on_top() -> None:
    start = startup.starts(Path("cat.jpg"))[1]
    assert start.arguments[:2] == ["classify", "cat.jpg"]
    met = startup.row(start, 9, {"convit": times(1799.0), "libraries": times(1000.0)}, ["torch"])
    assert (met["limit_ms"], met["ratio"], met["met"], met["imports_torch"]) == (1800.0, 1.799, True, True)
    missed = startup.row(start, 9, {"convit": times(1801.0), "libraries": times(1000.0)}, [])
    assert (missed["met"], missed["imports_torch"]) == (False, False)


def test_help_imports_nothing_heavy() -> None:
    start = startup.starts(Path("cat.jpg"))[0]
    assert startup.heavy_imports(start) == []
    assert (start.ratio, start.extra_ms) == (2.0, 0.0)


def test_the_photograph_is_labeled(photos: list[Path]) -> None:
    start = startup.starts(photos[0])[1]
    heavy = startup.heavy_imports(start)
    assert "torch" in heavy
    assert "torchvision" not in heavy
