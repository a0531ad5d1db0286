"""WebDataset shards: tar files, here or behind a URL, whose neighboring members make a sample."""

from __future__ import annotations

import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from gzip import BadGzipFile
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from convit.data.remote import is_remote, read_on, shown
from convit.data.samples import check_label
from convit.images import IMAGE_SUFFIXES, open_image
from convit.images.listing import is_hidden

Shard = Path | str  # a Path lies here, a str is a URL
Sample = tuple[str, bytes, int]

LABEL_SUFFIX = "cls"


class ShardSamples:
    """All samples of some shards, encoded, in memory, in the order of the files.

    Meant for sets that fit: CIFAR-10 takes 60 MB. Larger ones are streamed, see `convit.data.streams`.

    Args:
        shards: .tar or compressed tar files, or their URLs, whose samples are neighboring members
            `<key>.<image suffix>` and `<key>.cls`.
        classes: number of classes, where known; labels must lie below it.

    Raises:
        ConnectionError: a remote shard cannot be read.
        FileNotFoundError: a shard is absent.
        PermissionError: a shard may not be read.
        ValueError: a file is no tar archive, a sample lacks its image or its label, or a label is no class.
    """

    def __init__(self, shards: Sequence[Shard], classes: int | None = None) -> None:
        self.labels: list[int] = []
        self.names: list[str] = []
        self._images: list[bytes] = []
        for shard in shards:
            for name, image, label in read_shard(shard, classes):
                self.names.append(name)
                self.labels.append(label)
                self._images.append(image)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """The decoded RGB image.

        Raises:
            ValueError: the image cannot be read.
        """
        return open_image(self._images[index], name=self.names[index])


def read_shard(
    shard: Shard, classes: int | None = None, *, note_sha256: Callable[[str], None] | None = None
) -> Iterator[Sample]:
    """Yield (key, encoded image, class index) of one shard, in file order.

    A URL is streamed: nothing is kept on disk, and a connection that breaks is taken up again.

    Args:
        shard: the file, or its URL.
        classes: number of classes, where known; labels must lie below it.
        note_sha256: is told the sha256 of a remote shard, once it has been read to its end.

    Raises:
        ConnectionError: a remote shard cannot be read.
        FileNotFoundError: there is no such file.
        PermissionError: it may not be read.
        ValueError: it is no tar archive, is truncated, a sample lacks its image or its label, or a label is no class.
    """
    source = shown(shard)
    if is_remote(shard):
        samples = read_on(str(shard), lambda file: _streamed(file, source, note_sha256))
    else:
        samples = _samples(Path(shard), source)
    for key, image, label in samples:
        check_label(label, key, source, classes)
        yield key, image, label


def _streamed(file: BinaryIO, source: str, note_sha256: Callable[[str], None] | None) -> Iterator[Sample]:
    if note_sha256 is None:
        yield from _samples(file, source)
        return
    hashed = _HashedFile(file)
    yield from _samples(hashed, source)
    while hashed.read(1 << 20):  # tarfile leaves off at the end of the archive, which need not be that of the file
        pass
    note_sha256(hashed.sha256.hexdigest())


class _HashedFile:
    """A file that is read once from its beginning, and its sha256."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.sha256.update(data)
        return data


def _samples(file: Path | BinaryIO | _HashedFile, source: str) -> Iterator[Sample]:
    sample: dict[str, bytes] = {}
    key = ""
    for name, data in _members(file, source):
        folder, slash, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if folder + slash + stem != key and sample:
            yield _assemble(source, key, sample)
            sample = {}
        key = folder + slash + stem
        sample[suffix.lower()] = data
    if sample:
        yield _assemble(source, key, sample)


def _members(file: Path | BinaryIO | _HashedFile, source: str) -> Iterator[tuple[str, bytes]]:
    try:
        with _open_tar(file) as archive:
            for member in archive:
                wanted = member.isfile() and not any(map(is_hidden, member.name.split("/")))
                content = archive.extractfile(member) if wanted else None
                if content is not None:
                    yield member.name, content.read()
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        if isinstance(error, OSError) and not _means_damage(error):
            raise
        raise ValueError(f"{source} cannot be read as a tar archive ({error}); fetch or write it again") from error


def _open_tar(file: Path | BinaryIO | _HashedFile) -> tarfile.TarFile:
    if isinstance(file, Path):
        return tarfile.open(file, tarinfo=_StrictHeader)
    stream: Any = file  # of which a stream of members asks nothing but `read`
    return tarfile.open(fileobj=stream, mode="r|*", tarinfo=_StrictHeader)


def _means_damage(error: OSError) -> bool:
    # what decompressors complain of has no number; what the system or the network say is another matter
    return isinstance(error, BadGzipFile) or (type(error) is OSError and error.errno is None)


class _StrictHeader(tarfile.TarInfo):
    """A header that complains where tarfile would take a damaged or cut archive for one that ends here."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> tarfile.TarInfo:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":  # the block of zeros that ends every whole archive
                raise
            raise tarfile.ReadError("it is cut off or damaged") from error


def _assemble(source: str, key: str, sample: dict[str, bytes]) -> Sample:
    image = next((sample[suffix] for suffix in sample if f".{suffix}" in IMAGE_SUFFIXES), None)
    if image is None or LABEL_SUFFIX not in sample:
        raise ValueError(
            f"sample {key!r} of {source} has members {sorted(sample)}, but needs an image (such as .jpg) and a "
            f".cls with the class index"
        )
    try:
        return key, image, int(sample[LABEL_SUFFIX])
    except ValueError as error:
        raise ValueError(
            f"sample {key!r} of {source} has the label {sample[LABEL_SUFFIX][:20]!r}, but .cls must hold a whole number"
        ) from error
