"""What cannot be opened is refused in one line that says why and what to do."""

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import threading
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from convit.images import ImageError, Limits, open_image
from tests.data.making import encoded, picture


def refusal(source: object, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(source, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert isinstance(caught.value, ValueError)
    return message


def cat_bytes(kind: str, **options: object) -> bytes:
    return encoded(Image.fromarray(data.chelsea()), kind, **options)


def huge_png(width: int, height: int) -> bytes:
    """A PNG whose head promises far more pixels than follow."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    assert refusal(path) == f"{path}: no such file; check the path"


def test_addresses_are_no_files() -> None:
    assert refusal("https://example.org/a.jpg").endswith("no such file; download it first")


def test_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == (
        f"{tmp_path}: is a folder, not an image; name an image in it (convit.images.find_images lists them)"
    )


def test_device_and_pipe(tmp_path: Path) -> None:
    assert "is a device or a pipe" in refusal("/dev/zero")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "is a device or a pipe" in refusal(tmp_path / "pipe.jpg")


def test_path_that_is_none() -> None:
    assert "is not a path" in refusal("a\0b.jpg")
    assert "cannot be read (File name too long)" in refusal("a" * 5000)
    assert refusal("") == "'': is an empty path; name a file"


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(cat_bytes("JPEG"))

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    # a test run as root may read everything
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert refusal(path) == f"{path}: there is no permission to read it; change its mode or owner"


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.touch()
    assert refusal(path) == f"{path}: is empty (0 bytes); fetch or export it again"


@pytest.mark.parametrize("text", ["Not a picture.\n", "<html>404 – not found</html>", "{}"])
def test_text_called_jpg(tmp_path: Path, text: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_text(text, encoding="utf-8")
    assert refusal(path) == f"{path}: is text, not an image; check what was saved under this name"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\1\2\3" * 50, "is not in an image format that is read here; save it as JPEG or PNG"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "is a HEIC image, which Pillow cannot read by itself"),
        (b"%PDF-1.7\n\0", "is a PDF document, not an image"),
        (b"\xff\xd8\xff\xe0", "is damaged at its start, or a variant that Pillow cannot read"),
    ],
)
def test_unknown_formats(content: bytes, message: str) -> None:
    assert refusal(content).startswith(f"<bytes>: {message}")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_cut_off_files(kind: str, share: float) -> None:
    content = cat_bytes(kind)
    message = refusal(content[: int(len(content) * share)])
    assert "damaged" in message or "not in an image format" in message


def test_progressive_jpeg_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    content = cat_bytes("JPEG", progressive=True)
    path.write_bytes(content[: len(content) // 2])
    assert refusal(path).startswith(f"{path}: is cut off or damaged (")
    assert refusal(path).endswith("fetch or export it again")


def test_damaged_files_give_no_other_error() -> None:
    shuffled = random.Random(0)
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "PPM", "TGA", "JPEG2000"):
        content = cat_bytes(kind)
        for _ in range(25):
            broken = bytearray(content)
            for _ in range(10):
                broken[shuffled.randrange(min(400, len(broken)))] = shuffled.randrange(256)
            with suppress(ImageError):
                assert open_image(bytes(broken), limits=Limits(pixels=10**6)).mode == "RGB"


def test_lazy_pillow_image_that_is_cut_off() -> None:
    content = cat_bytes("JPEG")
    with Image.open(io.BytesIO(content[: len(content) // 2])) as image:
        assert refusal(image).startswith("<image>: is cut off or damaged (")


@pytest.mark.parametrize("side", [9_999, 13_000, 13_400, 60_000])
def test_decompression_bombs(side: int) -> None:
    # Pillow warns above 89 and raises above 179 million pixels; warnings are errors in this test
    message = refusal(huge_png(side, side))
    if side**2 > Limits.pixels:
        assert message == (
            "<bytes>: has more than 178,956,970 pixels and may be a decompression bomb; "
            "raise the limit pixels if you trust it"
        )
    else:
        assert "damaged" in message


def test_the_limit_of_pixels_can_be_moved() -> None:
    content = cat_bytes("PNG")
    area = 451 * 300
    assert open_image(content, limits=Limits(pixels=area)).size == (451, 300)
    assert refusal(content, limits=Limits(pixels=area - 1)).startswith("<bytes>: has more than 135,299 pixels")
    assert "damaged" in refusal(huge_png(60_000, 60_000)[:60], limits=Limits(pixels=2**40, decoded_bytes=2**40))
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Limits.pixels == 2 * Image.MAX_IMAGE_PIXELS


def test_a_large_photograph_is_no_bomb() -> None:
    large = np.zeros((10_000, 10_000), np.uint8)
    content = encoded(Image.fromarray(large), compress_level=1)
    assert open_image(content).size == (10_000, 10_000)


def test_pillow_limit_stays_while_threads_open_pictures() -> None:
    content, before = cat_bytes("PNG"), Image.MAX_IMAGE_PIXELS
    threads = [
        threading.Thread(target=open_image, args=(content,), kwargs={"limits": Limits(pixels=10**9)}) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 4, 3), np.uint8), "shape (2, 3, 4, 3) is not (height, width)"),
        (np.zeros((3, 224, 224), np.uint8), "move the channels last"),
        (np.zeros((0, 5, 3), np.uint8), "shape (0, 5, 3) is not"),
        (np.zeros(7, np.uint8), "shape (7,) is not"),
        (np.full((2, 2), 255.0), "float64 values lie in 255..255, but must lie in 0..1; scale them or hand over uint8"),
        (np.full((2, 2), -0.1), "must lie in 0..1"),
        (np.full((2, 2), np.nan), "values lie in nan..nan"),
        (np.full((2, 2), 256), "int64 values lie in 256..256, but must lie in 0..255; scale them"),
        (np.full((2, 2), "a"), "type <U1 holds no levels; use uint8, uint16 or float"),
        (np.full((2, 2), 1j), "type complex128 holds no levels"),
    ],
)
def test_wrong_arrays(array: np.ndarray, message: str) -> None:
    assert message in refusal(array)
    assert refusal(array).startswith("<array>: ")


def test_wrong_types(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="an image is a path, bytes, a Pillow image, a numpy array or a file"):
        open_image(7)
    path = tmp_path / "cat.png"
    path.write_bytes(cat_bytes("PNG"))
    with (
        path.open(encoding="latin-1") as file,
        pytest.raises(TypeError, match="gives str, not bytes; open it with mode"),
    ):
        open_image(file)


def test_errors_can_be_pickled() -> None:
    error = ImageError("a.jpg", "is\nbroken")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ImageError)
    assert str(again) == str(error) == "a.jpg: is broken"


def test_opening_needs_no_torch_and_prints_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cat.jpg"
    exif = Image.Exif()
    exif[0x010F] = "x" * 40
    # cut-off EXIF makes Pillow warn when it is left alone
    path.write_bytes(cat_bytes("JPEG", exif=exif.tobytes()[:-20]))
    script = "import sys; from convit.images import open_image, find_images; from convit.output import open_writer; "
    script += "open_image(sys.argv[1]); "
    script += "sys.exit(any(name in sys.modules for name in ('torch', 'pyarrow', 'rich')))"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_damaged_tiff_file_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    content = bytearray(encoded(picture(0, 64), "TIFF", compression="tiff_adobe_deflate"))
    content[100:400] = bytes(300)  # of the pixels
    with pytest.raises(ImageError, match="is cut off or damaged"):
        open_image(bytes(content))
    assert capfd.readouterr().err == ""  # libtiff has no words of its own
