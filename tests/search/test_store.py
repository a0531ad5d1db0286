"""What is said of stores that cannot be read."""

from collections.abc import Callable
from pathlib import Path

import pytest

from convit.search.store import Store, explained
from tests.search.conftest import row_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two rows whose labels are numbers, and one in a later file whose label is none."""
    made = Store(tmp_path / "db", 2, create=True)
    made.put([row_of("a", label="1"), row_of("b", label="5")])
    made.put([row_of("c", label="cat")])
    return made


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def overwrite(file: Path) -> None:
    file.write_bytes(b"x" * file.stat().st_size)


@pytest.mark.parametrize("part", ["_versions", "data"])
@pytest.mark.parametrize("harm", [cut, overwrite, Path.unlink])
def test_damage_is_called_so(store: Store, part: str, harm: Callable[[Path], None]) -> None:
    for file in (store.db / "images.lance" / part).iterdir():
        harm(file)
    message = r"db: the store is damaged \(.*\); try once more, and if it stays so delete the folder and index again$"
    with pytest.raises(ValueError, match=message):
        Store(store.db, 2, create=False).read(["vector"])


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        ("lance error: Too many concurrent writers, /src/x.rs:1:2", OSError, "x: LanceDB failed: Too many concurrent"),
        ("IO: No space left on device (os error 28)", OSError, "x: no space left on the device; free some"),
        (
            "IO: Permission denied (os error 13)",
            PermissionError,
            "x: no permission; change the permissions, or",
        ),
    ],
)
def test_other_failures_are_no_damage(said: str, kind: type[OSError], message: str) -> None:
    with pytest.raises(kind, match=message) as error, explained(Path("x")):
        raise RuntimeError(said)
    assert "delete" not in str(error.value)
    assert "/root" not in str(error.value)
