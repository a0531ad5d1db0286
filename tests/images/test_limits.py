"""No image takes the memory or the time of a run: what is refused by name, what is passed over, and what waits."""

import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from convit.images import ImageError, Limits, colors, current_limits, open_image, opening
from convit.images.colors import peak_bytes
from convit.images.limits import IN_FLIGHT
from convit.images.metadata import parse_orientation
from convit.images.opening import open_header, opened, read_bytes
from tests.data.making import encoded

NOISE = np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def with_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG file of the noise with one more chunk behind its header."""
    content = encoded(Image.fromarray(NOISE), "PNG")
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return content[:33] + chunk + content[33:]


def turned_exif() -> bytes:
    """EXIF of a photograph that lies on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def swapped_profile() -> bytes:
    """A color profile with red and blue exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"?XYZ").replace(b"bXYZ", b"rXYZ").replace(b"?XYZ", b"bXYZ")


def refusal(source: object, **limits: int) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(source, limits=Limits(**limits))  # type: ignore[arg-type]
    return str(caught.value)


def test_limits_are_read_from_text_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Limits.parse("") == Limits() == current_limits()
    found = Limits.parse(" pixels=5, decoded_bytes = 3MiB,file_bytes=2kb,metadata_bytes=1G,bytes_in_flight=7")
    expected = {"decoded_bytes": 3 << 20, "file_bytes": 2000, "metadata_bytes": 10**9, "bytes_in_flight": 7}
    assert found == Limits(pixels=5, **expected)
    monkeypatch.setenv("CONVIT_LIMITS", "pixels=1199")
    with pytest.raises(ImageError, match="has more than 1,199 pixels and may be a decompression bomb"):
        open_image(encoded(Image.fromarray(NOISE), "PNG"))
    for wrong in ("pixels", "pixels=", "pixels=many", "size=5", "pixels=-1", "pixels=1x", "pixels=5i"):
        with pytest.raises(ValueError, match=r"is not NAME=NUMBER with one of file_bytes, pixels"):
            Limits.parse(wrong)
    with pytest.raises(ValueError, match="the limit pixels is 0, but must be at least 1"):
        Limits(pixels=0)


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "sparse.jpg"
    with path.open("wb") as file:
        file.truncate(60 << 30)
    message = (
        "has more than 536,870,912 bytes and is too large for an image; raise the limit file_bytes if you trust it"
    )
    assert refusal(path) == f"{path}: {message}"
    with path.open("rb") as file, pytest.raises(ImageError, match="has more than 100 bytes"):
        read_bytes(file, Limits(file_bytes=100))


@pytest.mark.parametrize(
    ("mode", "size"), [("L", 1), ("RGB", 3), ("RGBA", 4), ("I;16", 2), ("F", 4), ("1", 1), ("LA", 2)]
)
def test_decoded_bytes_are_refused_by_name(mode: str, size: int) -> None:
    kind = "TIFF" if mode in ("F", "I") else "PNG"
    content = encoded(Image.new(mode, (50, 40)), kind)
    needed = 50 * 40 * size
    assert open_image(content, limits=Limits(decoded_bytes=needed)).size == (50, 40)
    assert refusal(content, decoded_bytes=needed - 1) == (
        f"<bytes>: takes {needed:,} bytes decoded, more than the {needed - 1:,} that are allowed; "
        "scale it down, or raise the limit decoded_bytes"
    )


@pytest.mark.parametrize(("kind", "size"), [("WEBP", 9), ("AVIF", 6), ("JPEG2000", 12)])
def test_copies_that_decoders_hold_count(kind: str, size: int) -> None:
    assert f"takes {1200 * size:,} bytes decoded" in refusal(encoded(Image.fromarray(NOISE), kind), decoded_bytes=5000)


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "RGBA", "LA", "P", "PA", "L"])
@pytest.mark.parametrize("kind", ["small", "large", "odd"])
def test_strips_give_the_same(mode: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = np.random.default_rng(5)
    if mode in ("I;16", "I", "F"):
        levels = drawn.integers(0, {"small": 256, "large": 65536, "odd": 90_000}[kind], (37, 23))
        levels = levels / 255 if mode == "F" and kind == "small" else levels
        values = levels.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
        if mode == "F" and kind == "odd":
            values[::7, ::5], values[3, 3], values[20, 2] = np.nan, np.inf, -np.inf
        image = Image.fromarray(values)
    else:
        image = Image.fromarray(drawn.integers(0, 256, (37, 23, 4), dtype=np.uint8)).convert(mode)
        if mode in ("L", "P"):
            image.info["transparency"] = 7
    whole = np.asarray(colors.to_rgb(image))
    for strip in (1, 100, 23 * 36):
        monkeypatch.setattr(colors, "_STRIP", strip)
        assert np.array_equal(np.asarray(colors.to_rgb(image)), whole)


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(NOISE), "PNG", pnginfo=(info := PngInfo())),
        with_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"a cat, " * 300_000)),
        with_chunk(b"tEXt", b"parameters\0" + b"a cat, " * 10_000_000),
        with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(5_000_000))),
        with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 70_000_000),
        with_chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(b"dog" * 1_000_000)),
        with_chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(3_000_000))),
        with_chunk(b"iCCP", b"profile\0\5unknown"),
        with_chunk(b"iCCP", b"profile"),
        with_chunk(b"eXIf", b"Exif\0\0" * 170_000),
        with_chunk(b"eXIf", bytes(20_000_000)),
    ],
    ids=range(11),
)
def test_png_with_large_metadata_is_read(content: bytes) -> None:
    before = time.perf_counter()
    assert np.array_equal(np.asarray(open_image(content)), NOISE)
    assert time.perf_counter() - before < 2


def test_useful_metadata_of_png_is_kept() -> None:
    xmp = b'<x tiff:Orientation="6"/>'
    for body in (b"\0\0\0\0" + xmp, b"\1\0\0\0" + zlib.compress(xmp)):
        assert open_image(with_chunk(b"iTXt", b"XML:com.adobe.xmp\0" + body)).size == (30, 40)
    content = with_chunk(b"iCCP", b"profile\0\0" + zlib.compress(swapped_profile()))
    assert not np.array_equal(np.asarray(open_image(content)), NOISE)
    assert np.array_equal(np.asarray(open_image(content, limits=Limits(metadata_bytes=10))), NOISE)


def test_jpeg_with_many_blocks_is_read_once_through() -> None:
    plain = encoded(Image.fromarray(NOISE), "JPEG")
    turned = encoded(Image.fromarray(NOISE), "JPEG", exif=turned_exif())
    first = turned[2:].find(b"\xff\xe1") + 2
    after = first + 2 + int.from_bytes(turned[first + 2 : first + 4], "big")
    assert open_image(turned).size == (30, 40)
    for block in (
        b"\xff\xe1\0\x0eExif\0\0MM\0*..",
        b"\xff\xfe\0\x06text",
        b"\xff\xff\xfe\0\x06text",
        b"\xff\xed\0\x06text",
    ):
        for content, at, size in ((turned, after, (30, 40)), (plain, 20, (40, 30))):
            stuffed = content[:at] + block * 100_000 + content[at:]
            before = time.perf_counter()
            image = open_image(stuffed)
            assert image.size == size
            assert np.array_equal(np.asarray(image), np.asarray(open_image(content)))
            assert time.perf_counter() - before < 2


def test_repeated_exif_marks_take_no_time() -> None:
    tag = b"MM\x00*" + bytes([0, 0, 0, 8, 0, 1, 1, 18, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0])
    before = time.perf_counter()
    assert parse_orientation(b"Exif\0\0" * 1_000_000 + tag) == 6
    assert time.perf_counter() - before < 2


def test_ppm_comments_end() -> None:
    for kind in (b"P6\n", b"P5 7\n", b"P4 "):
        assert "its header is longer than 65,536 bytes" in refusal(kind + b"#\n" * 500_000 + b"2 2 255\n" + bytes(12))
    assert open_image(b"P6\n# by hand\n2 2 #\n255\n" + bytes(12)).size == (2, 2)
    assert open_image(encoded(Image.new("1", (2000, 600)), "PPM")).size == (2000, 600)
    assert open_image(encoded(Image.fromarray(np.tile(NOISE, (9, 9, 1))), "PPM")).size == (360, 270)


def test_many_scans_are_refused() -> None:
    content = encoded(Image.new("L", (2000, 1500)), "JPEG", progressive=True)
    assert open_image(content).size == (2000, 1500)
    start = content.rindex(b"\xff\xda")
    assert "so many scans" in refusal(content[:start] + content[start:-2] * 2000 + content[-2:])


def test_running_out_of_memory_is_the_images_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    content = encoded(Image.fromarray(NOISE), "PNG")
    message = "a.png: there is not enough memory to decode it"
    with pytest.raises(ImageError, match=message), opened(content, name="a.png"):
        fail()
    for name in ("_decode", "read_bytes"):
        monkeypatch.setattr(opening, name, fail)
        with pytest.raises(ImageError, match=message):
            open_image(content, name="a.png")


def test_decoded_bytes_in_flight_have_a_limit() -> None:
    together: list[int] = []
    held = 0

    def work() -> None:
        nonlocal held
        with IN_FLIGHT.hold(40, 100):
            held += 40
            time.sleep(0.02)
            together.append(held)
            held -= 40

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(together) == 80
    with IN_FLIGHT.hold(1000, 100):  # alone, one that is larger than the limit passes
        pass


def test_a_forked_process_starts_with_nothing_in_flight() -> None:
    with IN_FLIGHT.hold(100, 100):
        child = os.fork()
        if child == 0:
            with IN_FLIGHT.hold(100, 100):
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_images_count_until_they_are_transformed() -> None:
    content, limits = encoded(Image.new("RGB", (900, 500)), "PNG"), Limits(bytes_in_flight=1_800_000)
    waiting = threading.Thread(target=open_image, args=(content,), kwargs={"limits": limits})
    with IN_FLIGHT.until_scaled():
        with suppress(ImageError):  # of one that cannot be read nothing stays
            open_image(content[:-500], limits=limits)
        open_image(content, limits=limits)
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
    waiting.join(5)
    assert not waiting.is_alive()


def test_an_image_waits_for_those_before_it() -> None:
    content, limits = encoded(Image.new("RGB", (900, 500)), "PNG"), Limits(bytes_in_flight=1_350_000)
    waiting = threading.Thread(target=open_image, args=(content,), kwargs={"limits": limits})
    with opened(content, limits=limits):
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
    waiting.join(5)
    assert not waiting.is_alive()


_PEAK = """
import re, sys
from convit.images import open_image
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
content, small = (open(file, "rb").read() for file in sys.argv[1:])
open_image(small)
before = peak()
open_image(content)
print((peak() - before) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize(
    ("mode", "options", "turns"),
    [
        ("L", {}, False),
        ("RGB", {}, False),
        ("RGB", {"exif": turned_exif()}, True),
        ("RGB", {"icc_profile": swapped_profile()}, False),
        ("RGBA", {}, False),
        ("RGBA", {"icc_profile": swapped_profile(), "exif": turned_exif()}, True),
        ("LA", {}, False),
        ("P", {}, False),
        ("I;16", {}, False),
    ],
    ids=range(9),
)
def test_what_an_image_takes_is_what_counts(mode: str, options: dict[str, bytes], turns: bool, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("large.png", "small.png")]
    for file, size in zip(files, ((6000, 4000), (60, 40)), strict=True):
        image = Image.new("RGBA", size, (200, 90, 60, 130))
        image = Image.new(mode, size, 300) if mode == "I;16" else image.convert(mode)
        image.save(file, compress_level=1, **options)
    run = subprocess.run([sys.executable, "-c", _PEAK, *files], capture_output=True, text=True, check=True)
    with open_header(files[0].read_bytes(), "large.png") as image:
        counted = peak_bytes(image, turns=turns)
    assert counted == pytest.approx(int(run.stdout), rel=0.25)


def test_pillow_never_warns_of_bombs() -> None:
    content = encoded(Image.new("1", (10_000, 9_500)), "PNG")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with opened(content) as (image, _):
            image.crop((0, 0, 10_000, 9_400))
    assert caught == []


@pytest.mark.parametrize("kind", ["AVIF", "TIFF", "WEBP", "JPEG2000", "GIF"])
def test_damage_anywhere_is_an_error_of_the_image(kind: str) -> None:
    options = {"compression": "tiff_adobe_deflate"} if kind == "TIFF" else {}
    content = bytearray(encoded(Image.fromarray(np.tile(NOISE, (4, 4, 1))), kind, **options))
    for start in range(0, len(content), max(1, len(content) // 40)):
        broken = content.copy()
        broken[start : start + 20] = bytes(255 - value for value in broken[start : start + 20])
        with suppress(ImageError):
            assert open_image(bytes(broken)).mode == "RGB"
