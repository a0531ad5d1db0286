"""Paths in results open again, two names never become one, and nothing that is printed drives a terminal."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convit.images import ImageError, find_images, open_image, source_name
from convit.images.names import escaped, given_path, path_text, text_path

STRANGE = (
    "a\nb.png",
    "a\\nb.png",
    "tab\there.png",
    "cr\rlf.png",
    "esc\x1b[31mred.png",
    "bidi\u202egpj.png",
    "=1+1.png",
    "caf\u00e9.png",
    "cafe\u0301.png",
    "100%.png",
    "file:caf%E9.png",
    'quote"comma,.png',
    os.fsdecode(b"caf\xe9.png"),
    os.fsdecode(b"\xff\xfe \n.png"),
    "line\u2028.png",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images with strange names, each of another color."""
    for number, name in enumerate(STRANGE):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / name, "PNG")
    return tmp_path


def test_every_name_is_read_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (folder, Path()):
        monkeypatch.chdir(folder)
        files = find_images(place)
        texts = [source_name(file) for file in files]
        assert len(set(texts)) == len(STRANGE)
        for file, text in zip(files, texts, strict=True):
            text.encode()
            assert text_path(text) == file
            pixel = np.asarray(open_image(text))[0, 0, 0]
            assert STRANGE[pixel] == file.name
            (found,) = find_images(text)
            assert np.asarray(open_image(found))[0, 0, 0] == pixel


def test_only_names_that_are_no_text_are_changed() -> None:
    assert [path_text(name) for name in STRANGE[:8]] == list(STRANGE[:8])
    assert path_text(os.fsdecode(b"/a b/caf\xe9.png")) == "file:/a%20b/caf%E9.png"
    assert text_path("file:///a%20b/x.png") == Path("/a b/x.png")


def test_a_file_that_is_called_like_an_address_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file:x.png").touch()
    assert given_path("file:x.png") == Path("file:x.png")
    Path("x.png").touch()
    assert given_path("file:x.png") == Path("x.png")


def test_messages_spell_out_what_must_not_be_printed() -> None:
    assert escaped("".join(map(chr, (7, 27, 0x7F, 0x9B, 0x2066, 0x200F, 0xDCE9)))) == (
        "\\x07\\x1b\\x7f\\x9b\\u2066\\u200f\\udce9"
    )
    assert escaped("Bildschirmfoto\u202f1 – ü 猫.png") == "Bildschirmfoto\u202f1 – ü 猫.png"
    with pytest.raises(ImageError, match=r"^esc\\x1b\]0;title\\x07\\u202e\.jpg: no such file"):
        open_image("esc\x1b]0;title\x07\u202e.jpg")
