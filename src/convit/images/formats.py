"""Which image formats are read: those that are handed to Pillow, their suffixes, and what is said of the others."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from convit.images.names import escaped

_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),  # Pillow opens MPO files through its JPEG reader
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "AVIF": (".avif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "ICO": (".ico",),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf"),
    "TGA": (".tga",),  # last: its files do not start with a signature
}
_MODULES = {"WEBP": "WebP", "JPEG2000": "Jpeg2K"}  # others are called as the format is: JpegImagePlugin
# format → (module that registers it with Pillow, function to call, package to install, suffixes)
_PLUGINS = {
    "HEIF": ("pillow_heif", "register_heif_opener", "pillow-heif", (".heic", ".heif", ".hif")),
    "JXL": ("pillow_jxl", None, "pillow-jxl-plugin", (".jxl",)),
}
_INSTALLED = tuple(name for name, (module, *_) in _PLUGINS.items() if find_spec(module) is not None)

IMAGE_SUFFIXES = (
    *(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes),
    *(suffix for name in _INSTALLED for suffix in _PLUGINS[name][3]),
)
"""Suffixes (any case) by which folders are searched: those of the formats that can be read."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")
_TEXT_PPM = tuple(b"P%c%c" % (digit, blank) for digit in b"123" for blank in b" \t\n\r#")
_VECTOR = "a program would have to draw it"
# start of the file → what it is, what to do
_REFUSED = (
    (b"%PDF", "is a PDF document, not an image; export its pages as PNG"),
    (b"%!PS", f"is an EPS or PostScript file, which is not read ({_VECTOR}); export it as PNG"),
    (b"\xc5\xd0\xd3\xc6", f"is an EPS file, which is not read ({_VECTOR}); export it as PNG"),
    (b"\xd7\xcd\xc6\x9a", f"is a WMF file, which is not read ({_VECTOR}); export it as PNG"),
    (b"8BPS", "is a Photoshop (PSD) file, which is not read; export it as PNG"),
    (b"SIMPLE  =", "is a FITS file, which is not read; hand over its values as an array"),
    ((b"<svg", b"<?xml"), "is an SVG or XML document, which is not read; export the image as PNG"),
    (_TEXT_PPM, "is a PPM file in text form, which is not read; save it in binary form or as PNG"),
)
_DAMAGED = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF", b"II*\x00", b"MM\x00*")
_TEXT = frozenset(range(32, 127)) | frozenset(b"\t\n\r\f\b\x1b") | frozenset(range(128, 256))


def formats_for(start: bytes) -> tuple[str, ...]:
    """The Pillow formats that a file may be opened as, by its first bytes; none for one that is refused.

    Their readers are registered with Pillow here, and no others: Pillow would register all of its own, among them
    those that start other programs.
    """
    if start.startswith(_TEXT_PPM):
        return ()
    for name in _SUFFIXES:
        import_module(f"PIL.{_MODULES.get(name, name.capitalize())}ImagePlugin")
    plugin = next((name for name in _INSTALLED if name == _plugin_format(start)), None)
    if plugin is None:
        return tuple(_SUFFIXES)
    module, register, *_ = _PLUGINS[plugin]
    registering = import_module(module)
    if register is not None:
        getattr(registering, register)()
    return (plugin,)


def needed_package(suffix: str) -> str | None:
    """The package that reads files with this suffix, where it is not installed."""
    return next((each[2] for name, each in _PLUGINS.items() if suffix in each[3] and name not in _INSTALLED), None)


def describe_unread(start: bytes) -> str:
    """What a file is that cannot be opened, as its first bytes tell, and what to do."""
    plugin = _plugin_format(start)
    if plugin is not None and plugin not in _INSTALLED:
        package = _PLUGINS[plugin][2]
        name = "HEIC" if plugin == "HEIF" else "JPEG XL"
        return f"is a {name} image, which Pillow cannot read by itself; pip install {package}, or save it as JPEG"
    for signature, message in _REFUSED:
        if start.startswith(signature):
            return message
    if start.startswith(_DAMAGED):
        return "is damaged at its start, or a variant that Pillow cannot read; export it again as JPEG or PNG"
    if _TEXT.issuperset(start):
        return "is text, not an image; check what was saved under this name"
    return "is not in an image format that is read here; save it as JPEG or PNG"


def _plugin_format(start: bytes) -> str | None:
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        return "HEIF"
    return "JXL" if start.startswith((b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")) else None


class ImageError(ValueError):
    """An image cannot be read; the message is one line: which image, what is wrong with it, and what to do."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(name, " ".join(problem.split()))  # kept apart, so that it can be pickled

    def __str__(self) -> str:
        name, problem = self.args
        return f"{escaped(name)}: {problem}"
