"""Which files a folder stands for."""

from collections import Counter
from pathlib import Path

import pytest

from convit.images import IMAGE_SUFFIXES, find_images, formats, listing
from convit.images.listing import describe_left_out


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(root: Path, recursive: bool = True) -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_images(root, recursive)]


def test_folders_are_searched_in_a_stable_order(tmp_path: Path) -> None:
    make(tmp_path, "b.JPG", "a.png", "c/z.webp", "c/d/y.jpeg", "c/a.tiff", "bb/x.gif", "notes.txt", "c/notes.md")
    assert found(tmp_path) == ["a.png", "b.JPG", "bb/x.gif", "c/a.tiff", "c/d/y.jpeg", "c/z.webp"]
    assert found(tmp_path, recursive=False) == ["a.png", "b.JPG"]


def test_files_by_name_are_kept_in_the_order_given(tmp_path: Path) -> None:
    make(tmp_path, "z.dat", "a.jpg", "folder/m.png")
    given = [tmp_path / "z.dat", tmp_path / "folder", str(tmp_path / "a.jpg"), tmp_path / "z.dat"]
    assert [path.name for path in find_images(given)] == ["z.dat", "m.png", "a.jpg", "z.dat"]
    assert find_images(str(tmp_path / "z.dat")) == [tmp_path / "z.dat"]


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "._a.jpg", ".thumbnails/b.jpg", ".hidden.png", "__MACOSX/a/b.jpg", "@eaDir/a.jpg/c.jpg")
    assert found(tmp_path) == ["a.jpg"]
    assert find_images(tmp_path / "._a.jpg") == [tmp_path / "._a.jpg"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    make(tmp_path, "album/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "album" / "loop").symlink_to(tmp_path / "album")
    (tmp_path / "album" / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "album" / "another").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "album" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "album" / "itself.jpg").symlink_to(tmp_path / "album" / "itself.jpg")
    (tmp_path / "album" / "pointer.jpg").symlink_to(tmp_path / "elsewhere" / "b.jpg")
    assert found(tmp_path / "album") == ["a.jpg", "another/b.jpg", "gone.jpg", "itself.jpg", "pointer.jpg"]


def test_deep_folders(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 200)
    deep.mkdir(parents=True)
    (deep / "a.jpg").touch()
    assert find_images(tmp_path) == [deep / "a.jpg"]


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        find_images([tmp_path, tmp_path / "holiday"])
    assert str(caught.value) == f"{tmp_path / 'holiday'}: no such file or folder; check the path"
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        find_images("a" * 5000)
    with pytest.raises(FileNotFoundError, match="no such file or folder; download it first"):
        find_images("https://host/cat.jpg")


def test_nothing_found(tmp_path: Path) -> None:
    make(tmp_path, "a.heic", "b.heic", "notes", "inside/a.jpg")
    with pytest.raises(ValueError, match="no images found") as caught:
        find_images(tmp_path, recursive=False)
    assert str(caught.value) == (
        f"{tmp_path}: no images found (but 2 with .heic, 1 with no suffix); looked for {' '.join(IMAGE_SUFFIXES)}; "
        "folders inside it are searched with recursive=True"
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: no images found; looked for \.jpg \.jpeg"):
        find_images(tmp_path / "empty")
    with pytest.raises(ValueError, match="no path was given"):
        find_images([])
    with pytest.raises(ValueError, match="or an empty one"):
        find_images([tmp_path, ""])


def test_what_is_left_out_is_counted_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_INSTALLED", ())
    monkeypatch.setattr(listing, "IMAGE_SUFFIXES", (".jpg",))
    make(tmp_path, "a.jpg", ".DS_Store", "._a.jpg", "b.heic", "c/d.HEIC", "c/e.mp4", "__MACOSX/a.jpg", "c/Thumbs.db")
    make(tmp_path, *(f"c/{letter}.{letter}" for letter in "abcd"), "c/.ipynb_checkpoints/a.jpg", "x", "c/e\x1b.\u202e")
    counted = Counter[str]()
    assert [path.name for path in find_images(tmp_path, left_out=counted)] == ["a.jpg"]
    assert describe_left_out(counted).startswith("left out: 2 .heic (pip install pillow-heif), 1 ")
    assert describe_left_out(counted).endswith(" and 3 others")
    assert {"__MACOSX", "no suffix", ".mp4", ".\u202e"} < set(counted)
    assert describe_left_out(Counter({".\u202e": 1})) == "left out: 1 .\\u202e"
    for folder, line in ((tmp_path / "c" / ".ipynb_checkpoints", ""), (tmp_path / "__MACOSX", "")):
        counted = Counter[str]()
        find_images(folder, left_out=counted)
        assert describe_left_out(counted) == line
    counted = Counter[str]()
    find_images(tmp_path, recursive=False, left_out=counted)
    assert "1 folders (without --recursive)" in describe_left_out(counted)


def test_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    # a test run as root may read everything
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(PermissionError, match="there is no permission to read this folder; change its mode"):
        find_images(tmp_path)
