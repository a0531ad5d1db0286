"""Pictures of every kind become RGB in the documented way."""

import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from skimage import data

from convit.images import ImageError, open_image, source_name
from convit.images.opening import opened
from tests.data.making import encoded


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def wide_profile() -> bytes:
    """The profile of a color space with Adobe RGB's primaries, wider than sRGB."""
    return make_matrix_profile([(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)])


def make_matrix_profile(primaries: list[tuple[float, float, float]], gamma: float = 2.2) -> bytes:
    """An ICC profile (version 2) with the given red, green and blue in XYZ (D50)."""

    def fixed(value: float) -> bytes:
        return round(value * 65536).to_bytes(4, "big", signed=True)

    def xyz(values: tuple[float, float, float]) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    curve = b"curv\0\0\0\0" + (1).to_bytes(4, "big") + round(gamma * 256).to_bytes(2, "big") + b"\0\0"
    text = b"test\0"
    description = b"desc\0\0\0\0" + len(text).to_bytes(4, "big") + text + b"\0" * (8 + 4 + 3 + 67)
    description += b"\0" * (-len(description) % 4)
    parts = {b"desc": description, b"wtpt": xyz((0.9642, 1.0, 0.8249)), b"cprt": b"text\0\0\0\0none\0\0\0\0"}
    parts |= dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(xyz, primaries), strict=True))
    parts |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body = len(parts).to_bytes(4, "big"), b""
    start = 128 + 4 + 12 * len(parts)
    for tag, part in parts.items():
        table += tag + (start + len(body)).to_bytes(4, "big") + len(part).to_bytes(4, "big")
        body += part
    size = (start + len(body)).to_bytes(4, "big")
    header = size + b"lcms" + bytes([2, 16, 0, 0]) + b"mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28)
    header += b"".join(map(fixed, (0.9642, 1.0, 0.8249)))
    return header + bytes(128 - len(header)) + table + body


def test_every_source_gives_the_same(cat: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    cat.save(path)
    content = path.read_bytes()
    with path.open("rb") as file:
        from_file = open_image(file)
        assert not file.closed
    sources = [
        path,
        str(path),
        content,
        bytearray(content),
        memoryview(content),
        io.BytesIO(content),
        cat,
        np.array(cat),
    ]
    for image in [from_file, *map(open_image, sources)]:
        assert np.array_equal(pixels(image), data.chelsea())
    assert open_image(cat) is cat


def test_photographs_are_as_pillow_reads_them(photos: list[Path]) -> None:
    for path in photos:
        with Image.open(path) as image:
            assert np.array_equal(pixels(open_image(path)), pixels(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "HSV"])
def test_plain_modes(cat: Image.Image, mode: str) -> None:
    image = cat.convert(mode)
    assert np.array_equal(pixels(open_image(image)), pixels(image.convert("RGB")))


def test_cmyk_and_ycck_files(cat: Image.Image) -> None:
    content = encoded(cat.convert("CMYK"), "JPEG", quality=95)
    assert abs(pixels(open_image(content)) - pixels(cat)).mean() < 3
    ycck = bytearray(content)
    marker = content.index(b"Adobe")
    assert ycck[marker + 11] == 0
    ycck[marker + 11] = 2  # says that the same numbers are YCCK
    with Image.open(io.BytesIO(ycck)) as image:
        assert image.mode == "CMYK"
    assert open_image(bytes(ycck)).size == cat.size


def test_lab_files(cat: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "lab.tif"
    cat.convert("LAB").save(path)
    assert abs(pixels(open_image(path)) - pixels(cat)).mean() < 3


def test_transparency_is_laid_over_white(cat: Image.Image) -> None:
    alpha = Image.linear_gradient("L").resize(cat.size)
    layered = cat.copy()
    layered.putalpha(alpha)
    weight = np.asarray(alpha)[..., None] / 255
    expected = pixels(cat) * weight + 255 * (1 - weight)
    assert abs(pixels(open_image(encoded(layered))) - expected).max() <= 1
    gray = cat.convert("L")
    gray.putalpha(alpha)
    expected = np.asarray(cat.convert("L"))[..., None] * weight + 255 * (1 - weight)
    assert abs(pixels(open_image(encoded(gray))) - expected).max() <= 1
    assert abs(pixels(open_image(np.array(gray))) - expected).max() <= 1


def test_opaque_pictures_with_alpha_keep_their_levels(cat: Image.Image) -> None:
    layered = cat.convert("RGBA")
    assert np.array_equal(pixels(open_image(layered)), pixels(cat))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_transparent_palette_entry(kind: str) -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    image.putpixel((3, 1), 0)
    opened = pixels(open_image(encoded(image, kind, transparency=0)))
    assert opened[1, 3].tolist() == [255, 255, 255]
    assert opened[0, 0].tolist() == [200, 10, 10]


def test_palette_with_alpha_for_each_entry() -> None:
    image = Image.new("P", (3, 1))
    image.putdata([0, 1, 2])
    image.putpalette([0, 0, 0, 0, 0, 0, 90, 60, 30])
    opened = pixels(open_image(encoded(image, transparency=bytes([0, 128, 255]))))
    assert opened[0].tolist() == [[255, 255, 255], [127, 127, 127], [90, 60, 30]]


@pytest.mark.parametrize(
    ("bits", "stored", "clear", "other"),
    [
        (1, b"\x40", [0], [255]),
        (2, b"\x60", [1], [170]),
        (4, b"\x35", [3], [85]),
        (8, b"\x03\x05", [3], [5]),
        (16, b"\x01\x02\x09\x02", [0x0102], [9]),
        (8, b"\x01\x02\x03\x04\x05\x06", [1, 2, 3], [4, 5, 6]),
        (16, b"\1\7\2\7\3\7\4\7\5\7\6\7", [0x0107, 0x0207, 0x0307], [4, 5, 6]),
    ],
)
def test_transparent_color(bits: int, stored: bytes, clear: list[int], other: list[int]) -> None:
    header = struct.pack(">IIBBBBB", 2, 1, bits, 2 if len(clear) == 3 else 0, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"tRNS", struct.pack(f">{len(clear)}H", *clear)),
        (b"IDAT", zlib.compress(b"\0" + stored)),
        (b"IEND", b""),
    )
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    with Image.open(io.BytesIO(content)) as image:
        for source in (content, image, image):
            assert pixels(open_image(source))[0].tolist() == [[255] * 3, other * (4 - len(other))]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    levels = np.linspace(0, 65535, 40 * 30).reshape(30, 40).astype(np.uint16)
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(levels).save(path)
    expected = np.rint(levels / 257)
    assert np.array_equal(pixels(open_image(path)), np.repeat(expected[..., None], 3, axis=-1))
    assert np.array_equal(pixels(open_image(levels)), pixels(open_image(path)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 100, 255]], np.int32), [0, 100, 255]),
        (np.array([[0, 257, 65535]], np.int32), [0, 1, 255]),
        (np.array([[-100, 0, 100_000]], np.int32), [0, 0, 255]),
        (np.array([[-5, -5, -5]], np.int32), [0, 0, 0]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 99.6, 255]], np.float32), [0, 100, 255]),
        (np.array([[-1, 0, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, np.nan, 1]], np.float32), [0, 0, 255]),
        (np.array([[np.nan, np.inf, -np.inf]], np.float32), [0, 0, 0]),
    ],
)
def test_thirty_two_bits(values: np.ndarray, expected: list[int], tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(values).save(path)
    assert pixels(open_image(path))[0, :, 0].tolist() == expected


def test_arrays(cat: Image.Image) -> None:
    expected = pixels(cat)
    color = data.chelsea()
    assert np.array_equal(pixels(open_image(color / 255)), expected)
    assert np.array_equal(pixels(open_image((color / 255).astype(np.float32))), expected)
    assert np.array_equal(pixels(open_image(color.astype(np.int64))), expected)
    assert np.array_equal(pixels(open_image(color.astype(np.uint16) * 257)), expected)
    assert np.array_equal(pixels(open_image(color[::-1, ::-1])), expected[::-1, ::-1])
    assert np.array_equal(pixels(open_image(color[..., :1]))[..., 2], expected[..., 0])
    assert np.array_equal(pixels(open_image(color[..., 0]))[..., 2], expected[..., 0])
    opaque = np.concatenate([color, np.full_like(color[..., :1], 255)], axis=-1)
    assert np.array_equal(pixels(open_image(opaque)), expected)
    assert set(np.unique(pixels(open_image(color[..., 0] > 100)))) == {0, 255}


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_first_frame_of_animations(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "green", "blue")]
    content = encoded(
        frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
    )
    assert pixels(open_image(content))[8, 8].tolist() == [255, 0, 0]


def test_wide_color_profile_becomes_srgb(cat: Image.Image) -> None:
    profile = wide_profile()
    content = encoded(cat, icc_profile=profile)
    expected = ImageCms.profileToProfile(cat, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB")
    opened = open_image(content)
    assert np.array_equal(pixels(opened), pixels(expected))
    assert abs(pixels(opened) - pixels(cat)).max() > 10
    assert "icc_profile" not in opened.info
    assert np.array_equal(pixels(open_image(opened)), pixels(expected))


def test_srgb_profile_changes_nothing(cat: Image.Image) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(pixels(open_image(encoded(cat, icc_profile=profile))), pixels(cat))


@pytest.mark.parametrize("profile", [b"garbage", b"\0" * 200, wide_profile()[:300]])
def test_broken_profile_is_passed_over(cat: Image.Image, profile: bytes) -> None:
    assert np.array_equal(pixels(open_image(encoded(cat, icc_profile=profile))), pixels(cat))


def test_profile_of_another_mode_is_passed_over(cat: Image.Image) -> None:
    gray = cat.convert("L")
    opened = open_image(encoded(gray, icc_profile=wide_profile()))
    assert np.array_equal(pixels(opened), pixels(gray.convert("RGB")))


def test_one_lazy_image_in_many_threads(cat: Image.Image) -> None:
    start = threading.Barrier(4)

    def open_together(image: Image.Image) -> np.ndarray:
        start.wait()
        return pixels(open_image(image))

    with Image.open(io.BytesIO(encoded(cat))) as image, ThreadPoolExecutor(4) as pool:
        for opened in pool.map(open_together, [image] * 4):
            assert np.array_equal(opened, data.chelsea())


def test_names_of_sources(cat: Image.Image, tmp_path: Path) -> None:
    assert source_name(tmp_path / "a b.jpg") == str(tmp_path / "a b.jpg")
    assert source_name("x\x1b[31m\n.jpg") == "x\x1b[31m\n.jpg"
    with pytest.raises(ImageError, match=r"^x\\x1b\[31m\\ud800\\u202e\\n\.jpg: is not a path"):
        open_image("x\x1b[31m\ud800\u202e\n.jpg")
    assert source_name("Bildschirmfoto\u202f1 – ü.png") == "Bildschirmfoto\u202f1 – ü.png"
    assert [source_name(source) for source in (b"", cat, np.zeros(1), io.BytesIO())] == [
        "<bytes>",
        "<image>",
        "<array>",
        "<BytesIO>",
    ]


def test_large_jpegs_can_be_decoded_small(cat: Image.Image) -> None:
    large = cat.resize((1804, 1200), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(large, "JPEG", quality=95, exif=exif)
    assert open_image(content).size == (1200, 1804)
    for at_least, size in [(1201, (1200, 1804)), (600, (600, 902)), (512, (600, 902)), (64, (150, 226))]:
        assert open_image(content, at_least=at_least).size == size
    small = open_image(content, at_least=512).resize((150, 225))
    assert abs(pixels(small) - pixels(open_image(content).resize((150, 225)))).mean() < 1
    assert open_image(encoded(large), at_least=64).size == large.size


def test_pictures_decoded_small_say_their_full_size(cat: Image.Image) -> None:
    large = cat.resize((1803, 1201), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(large, "JPEG", quality=95, exif=exif)
    with opened(content, at_least=512) as (image, full_size):
        assert (image.size, full_size) == ((601, 902), (1201, 1803))
    with opened(content, at_least=512, apply_exif=False) as (image, full_size):
        assert (image.size, full_size) == ((902, 601), (1803, 1201))
    for source in (encoded(large), large, np.asarray(large)):
        with opened(source, at_least=64) as (image, full_size):
            assert image.size == full_size == (1803, 1201)
