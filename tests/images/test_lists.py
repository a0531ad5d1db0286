from pathlib import Path

import pytest
from PIL import Image

from convit.data import open_samples
from convit.images import find_images
from convit.images.lists import is_list, list_source, read_list
from convit.scale.inputs import list_inputs
from convit.search import list_images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.png", "deep/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("x.csv", "image,label\na.jpg,cat\ndeep/c.jpg,dog\n", ["cat", "dog"]),
        ("x.csv", "\ufefflabel,Image\r\ncat,a.jpg\r\n\r\ndog,deep/c.jpg\r\n", ["cat", "dog"]),  # as Excel writes
        ("x.csv", "image;label\na.jpg;cat\ndeep/c.jpg;dog\n", ["cat", "dog"]),
        ("x.tsv", 'filename\tclass\ttaken\na.jpg\tcat\t2020\n"deep/c.jpg"\tdog\t2021\n', ["cat", "dog"]),
        ("x.csv", "id,breed\na,boxer\ndeep/c,pug\n", ["boxer", "pug"]),  # Kaggle: no suffix, a label of any name
        ("x.csv", "Image,Id\na.jpg,w_1\ndeep/c.jpg,w_2\n", ["w_1", "w_2"]),
        ("x.csv", "a.jpg,3\ndeep/c.jpg,4\n", ["3", "4"]),  # no line of names
        ("x.csv", "where,kind\na.jpg,cat\ndeep/c.jpg,dog\n", ["cat", "dog"]),
        ("x.csv", "image_id\na.jpg\ndeep/c.jpg\n", None),
        ("x.csv", "image,width,height\na.jpg,4,4\ndeep/c.jpg,4,4\n", None),
        ("x.TXT", "a.jpg\n\ndeep/c.jpg\n", None),
    ],
)
def test_images_and_labels_are_found_by_name_or_by_what_they_are(
    images: Path, name: str, text: str, labels: list[str] | None
) -> None:
    (images / name).write_text(text, encoding="utf-8", newline="")
    found = read_list(images / name)
    assert (found.names, found.labels) == (["a.jpg", "deep/c.jpg"], labels)
    assert find_images(images / name) == [images / "a.jpg", images / "deep/c.jpg"]
    (images / name).write_text(text.removeprefix("\ufeff"), encoding="utf-16", newline="")  # as PowerShell writes
    assert read_list(images / name) == found


def test_paths_start_where_it_is_said_and_names_may_hold_anything(images: Path, tmp_path: Path) -> None:
    odd = "tab,\there? and\nline.jpg"
    Image.new("RGB", (4, 4)).save(images / "deep" / odd)
    (tmp_path / "lists").mkdir()
    path = tmp_path / "lists" / "x.csv"
    path.write_bytes(b'image,label\nc,1\n"tab,\there? and\nline.jpg",2\nlatin-\xe9.jpg,3\n')
    source = list_source(path, images / "deep")
    assert find_images(source)[:2] == [images / "deep/c.jpg", images / "deep" / odd]
    assert bytes(find_images(source)[2]).endswith(b"latin-\xe9.jpg")
    assert read_list("x.csv?images=..%2Fdeep", tmp_path / "lists").names[0] == "c.jpg"
    with pytest.raises(FileNotFoundError, match=r"none of the 3 images .*lists \(the first is c\); say with --images"):
        find_images(path)


def test_lists_of_urls_are_to_be_downloaded(images: Path) -> None:
    (images / "x.txt").write_text("https://host/a.jpg\n")
    with pytest.raises(FileNotFoundError, match=r"none of the 1 images .*host/a\.jpg\); download them first"):
        find_images(images / "x.txt")


def test_file_urls_are_paths(images: Path) -> None:
    for name in ("deep", "a.jpg", "b%20c.txt"):
        assert list_source(f"file://{images}/{name}") == f"{images}/{name.replace('%20', ' ')}"
    assert list_source(f"file://{images}/x.txt", "y") == f"{images}/x.txt?images=y"
    assert list_source("file:caf%E9") == "file:caf%E9"  # as it is given to what reads both


def test_a_folder_may_be_called_as_a_list(images: Path) -> None:
    (images / "x.csv" / "cat").mkdir(parents=True)
    image = (images / "a.jpg").rename(images / "x.csv" / "cat" / "a.jpg")
    assert find_images(images / "x.csv") == [image]
    assert [each.name for each in list_images(images / "x.csv")] == ["cat/a.jpg"]
    for source, root in ((str(images / "x.csv"), None), ("x.csv", images)):
        assert open_samples(source, root=root).class_names == ("cat",)


def test_a_folder_may_be_called_with_a_question_mark(images: Path) -> None:
    odd = images.rename(images.with_name("where? when?"))
    (odd / "x.csv").write_text("image,label\na.jpg,cat\n")
    for source in (odd / "x.csv", list_source(odd / "x.csv", odd), f"{odd}/x.csv?allow-outside=yes&images={odd}"):
        assert find_images(source) == [odd / "a.jpg"]
        assert open_samples(source).class_names == ("cat",)
        assert [file.path for file in list_inputs([str(source)])] == [str(odd / "a.jpg")]
    assert is_list("https://host/x.csv?token=a.b")
    assert not is_list("x.csv?" + "images=" * 100 + "&x")  # found without trying every division
    odd.rename(images)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.jpg", "deep/../../x.jpg", "a\0.jpg"])
def test_paths_that_lead_outside_are_refused(images: Path, name: str) -> None:
    (images / "x.txt").write_text(f"a.jpg\n{name}\n")
    with pytest.raises(ValueError, match=r"outside of the images' folder.*--allow-outside|not a path"):
        read_list(images / "x.txt")


def test_paths_may_lead_outside_where_that_is_allowed(images: Path) -> None:
    (images / "deep/x.txt").write_text(f"../b.png\n{images / 'a.jpg'}\n")
    assert [path.resolve() for path in find_images(list_source(images / "deep/x.txt", allow_outside=True))] == [
        images / "b.png",
        images / "a.jpg",
    ]
    with pytest.raises(ValueError, match=r"photos is not a list of images .* leave them out"):
        list_source("photos", "here")
    with pytest.raises(ValueError, match=r"s3://b/x\.csv is a list at a URL, whose paths start from its folder"):
        list_source("s3://b/x.csv", "here")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "names no image"),
        ("x.txt", b"\n\n", "names no image"),
        ("x.csv", b"left,right\n1,2\n", "no column of images among left, right; name one 'image'"),
        ("x.csv", b"image,label\na.jpg,cat\nb.png\n", "line 3 of .* has not all of the 2 columns"),
        ("x.csv", b"image,label\na.jpg,\n", "line 2 of .* has not all"),
        ("x.csv", b'image,label\n"a.jpg,cat\n', "cannot be read as a table"),
    ],
)
def test_lists_that_are_incomplete_are_refused(images: Path, name: str, content: bytes, message: str) -> None:
    (images / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_list(images / name)
    with pytest.raises(FileNotFoundError, match="there is no list"):
        read_list(images / "none.csv")
